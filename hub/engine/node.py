"""One hub process's engine: its parts put together, started in order, stopped in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from hub.config.notifiers import NotifierDeclaration
from hub.engine.again import Again
from hub.engine.cancelling import guarding
from hub.engine.catalog import FlowCatalog
from hub.engine.census import TaskCensus
from hub.engine.dispatcher import Dispatcher
from hub.engine.folders import FlowFolders
from hub.engine.intake import Intake
from hub.engine.kills import Kills
from hub.engine.listeners import Listeners
from hub.engine.live import LiveFeed
from hub.engine.local_tasks import LocalTasks
from hub.engine.neighbours import Neighbours
from hub.engine.notifications import Notifications
from hub.engine.outbox import Outbox
from hub.engine.retention import Retention, RetentionRule
from hub.engine.routes import Routes
from hub.engine.services import Services
from hub.engine.telling import tell_execution
from hub.engine.triggers import TriggerSupervisor
from hub.engine.watchdog import watched
from hub.errors import HubError
from hub.model.execution import Execution, ExecutionState
from hub.model.flow import NotifyRule
from hub.model.ids import FlowKey
from hub.plugin.listener import Listener
from hub.registry import Registry

log = structlog.get_logger("hub.engine")

DRAIN_GRACE = 30.0
"""Seconds that running tasks get when the hub stops."""
LINGER = 2.0
"""Seconds that a hub of several goes on taking what it is sent, after it has said that it is not ready."""
NOTICES_GRACE = 10.0
"""Seconds after that for the notices that are due; the others stay owed."""


class Node:
    """The engine of one process."""

    def __init__(
        self,
        services: Services,
        *,
        folders: Sequence[Path] = (),
        task_folders: Sequence[Path] = (),
        most_executions: int = 500,
        retention: Sequence[RetentionRule] = (RetentionRule(),),
        listeners: Sequence[Listener] = (),
        notifiers: Mapping[str, NotifierDeclaration] | None = None,
        notify: Sequence[NotifyRule] = (),
        hub_url: str = "",
    ) -> None:
        self.services = services
        self.catalog = FlowCatalog(services)
        self.dispatcher = Dispatcher(services, self.catalog, limit=most_executions)
        self.routes = Routes()
        self.intake = Intake(
            services,
            self.catalog,
            self.routes,
            Outbox(services, notify, hub_url),
            dispatcher=self.dispatcher,
        )
        self.kills = Kills(services, self.intake, self.dispatcher)
        self.dispatcher.serve(self.intake, self.kills)
        self.triggers = TriggerSupervisor(services, self.catalog, self.intake, self.routes)
        self.again = Again(services, self.catalog, self.intake)
        self.notifications = Notifications(services, notifiers or {})
        self.retention = Retention(services, retention)
        self.live = LiveFeed(services)
        self.listeners = Listeners(services, listeners)
        others = [folder for folder in folders if folder not in task_folders]
        self.local_tasks = LocalTasks(task_folders, others=others, use=self.use)
        is_shared = not services.storage.single_process
        self.folders = FlowFolders(folders, self.catalog, self._load_tasks, is_shared=is_shared)
        self.neighbours = (
            Neighbours(
                services, self.catalog, self.dispatcher, lost=self._lose_all, drain=self._begin_to_drain
            )
            if is_shared
            else None
        )
        self._drain: asyncio.Task[None] | None = None
        self.is_draining = False
        """Whether it takes nothing new because somebody asked it to."""
        self.is_ready = False
        """From when every flow takes its events until the hub begins to stop."""
        self.takes_events = False
        """From when it is ready until whoever asks whether it is has heard that it is not any more."""
        self.linger = LINGER if is_shared else 0.0
        self.hurried = asyncio.Event()
        """Set when the hub is to stop at once."""
        self.drain_grace = DRAIN_GRACE
        self.notices_grace = NOTICES_GRACE
        self.longest_block: timedelta | None = None
        """How long one call may keep the loop before the process is ended; None: it is only named."""

    def use(self, registry: Registry) -> None:
        """From now on components are those of this registry."""
        self.services.registry = registry

    async def _load_tasks(self) -> set[str]:
        """Bring the folders' own tasks in line with their files; answers the types that are other ones now."""
        types = await self.local_tasks.scan(self.services.registry)
        if types:
            self.catalog.types_changed(types)
            self.services.bus.tell("types", "local", names=sorted(types))
        return types

    @asynccontextmanager
    async def running(
        self, *, with_triggers: bool = True, on_failure: Callable[[BaseException], None] | None = None
    ) -> AsyncIterator[None]:
        """Take over what was left, load the flows, start the triggers; drain on the way out."""
        services = self.services
        services.bus.open_to(self.intake)
        if with_triggers:
            self.listeners.start()
        if self.neighbours is not None:
            await self.neighbours.open()
        await self.catalog.open()
        await self.intake.open()
        await self.folders.scan()
        self.local_tasks.say_ignored()
        self.catalog.check_types()
        await self.dispatcher.recover()
        jobs = [
            asyncio.create_task(self.dispatcher.run(), name="dispatcher"),
            asyncio.create_task(self.notifications.run(), name="notifications"),
            asyncio.create_task(TaskCensus(services).run(), name="census"),
        ]
        if self.neighbours is not None:
            jobs.append(asyncio.create_task(self.neighbours.run(), name="neighbours"))
        if with_triggers:
            for record in self.catalog.records():
                self.triggers.refresh(record.key)
            self.catalog.on_change(self.triggers.refresh)
            await self.triggers.settle()
            jobs.append(asyncio.create_task(self.triggers.run(), name="triggers"))
            jobs.append(asyncio.create_task(self.folders.watch(), name="folders"))
            jobs.append(asyncio.create_task(self.retention.run(), name="retention"))
        for job in jobs:
            job.add_done_callback(lambda job: self._check(job, on_failure))
        self.is_ready = self.takes_events = not self.is_draining
        try:
            with watched(services, self.longest_block), guarding(services):
                yield
        finally:
            self.is_ready = self.takes_events = False
            await self._stop(jobs)

    def _lose_all(self) -> None:
        """The others took this hub for dead: it holds nothing any more, and goes on as another."""
        self.dispatcher.lose_all()
        self.triggers.leases_lost()
        self.services.owed.set()

    async def stop_taking(self) -> None:
        """Say that it is not ready, and take nothing new once a load balancer has heard of it.

        One hub alone has nobody to hand over to, and takes nothing from now on.
        """
        self.is_ready = False
        if self.takes_events and self.linger:
            with suppress(TimeoutError):
                async with asyncio.timeout(self.linger):
                    await self.hurried.wait()
        self.takes_events = False

    def _begin_to_drain(self) -> None:
        if self._drain is None:
            self._drain = asyncio.get_running_loop().create_task(self.drain(), name="drain")

    async def drain(self) -> None:
        """Take nothing new, let what runs end or hand it back, and stay up until the process is stopped."""
        self.is_draining = True
        await self.stop_taking()
        await self.triggers.stop()
        await self.dispatcher.drain(self.drain_grace)
        log.info("drained: nothing runs here any more")

    async def kill(self, execution_id: str, reason: str = "killed") -> Execution:
        """Kill an execution wherever it stands, and those it waits for. Raises ``NotFound``."""
        return await self.kills.kill(execution_id, reason)

    async def restart(self, execution_id: str) -> Execution:
        """Go on with an ended execution; see ``Again.restart``."""
        execution = await self.again.restart(execution_id)
        self.dispatcher.poke()
        self.services.bus.tell("execution", execution_id, state=execution.state.value)
        tell_execution(self.services, execution, execution.state)
        return execution

    async def run_to_end(
        self, key: FlowKey, inputs: Mapping[str, Any], labels: Mapping[str, str] | None = None
    ) -> Execution:
        """Start a flow and wait for its end."""
        with self.services.bus.subscribe("execution", size=10_000) as news:
            started = await self.intake.start(key, inputs=inputs, labels=labels or {})
            found = started
            while not found.state.is_terminal:
                told = await news.next()
                if told.id == started.id and ExecutionState(told.details["state"]).is_terminal:
                    found = await self.services.storage.execution(started.id)
        return found

    async def _stop(self, jobs: Sequence[asyncio.Task[None]]) -> None:
        if self._drain is not None:
            await self._drain
        await self.triggers.stop()
        await self.intake.settled()
        await self.dispatcher.drain(self.drain_grace)
        self.services.watches.give_up()
        await self.notifications.drain(self.notices_grace)
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)
        await self.listeners.stop(self.drain_grace)
        await self.services.shared.close()

    def _check(self, job: asyncio.Task[None], on_failure: Callable[[BaseException], None] | None) -> None:
        """A part that dies takes the process down; a hub that half works acknowledges what it never does."""
        if on_failure is None:
            return
        if not job.cancelled():
            error = job.exception()
        else:
            error = cancelled_from_within(job.get_name()) if self.is_ready else None
        if error is not None:
            on_failure(error)


def cancelled_from_within(what: str) -> HubError:
    """The failure of a hub whose own tasks somebody in it has cancelled."""
    return HubError(
        f"{what} was cancelled by code that runs inside the hub; it ends, and its next start goes on with what was"
        " accepted",
        hint="a plugin cancels tasks that are not its own, as in: for task in asyncio.all_tasks(): task.cancel()",
    )
