"""Notifications: owed notices are claimed, sent by their notifiers, and tried again until they are settled.

Runs beside the executions and fails none of them. What is sent and not settled, because the hub went down in
between, is sent again under the same id (G9). The storage is the truth; ``Services.owed`` only wakes.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, TypeVar

import structlog
from pydantic import TypeAdapter

from hub.config.notifiers import NotifierDeclaration
from hub.engine.compiled import build
from hub.engine.patience import persist
from hub.engine.rendering import Field
from hub.engine.services import Services
from hub.errors import HubError, StorageError
from hub.plugin.notices import Notice, NoticeClaim, NoticeSettlement, NoticeState
from hub.plugin.notifier import Attachment, Gone, Notification, Notifier, NotifierContext
from hub.plugin.outcomes import Fail, Outcome, Retry

log = structlog.get_logger("hub.notices")

T = TypeVar("T")

_UNKNOWN_AT_ONCE = 16
"""How many notices to a name that no setting has are given up at a time."""
_AWAY = 1.0
"""Seconds between looks while the storage is away."""
_REST = timedelta(seconds=1)
_MOST_CRASHES = 5
_LONGEST_AFTER = timedelta(days=1)
_JITTER = 0.1
_LONGEST_ERROR = 500
_LONGEST_QUOTED = 2_000
"""Characters of a message, where it goes out with others."""


@dataclass(frozen=True, slots=True)
class NotifierState:
    """A notifier as the API shows it."""

    declaration: NotifierDeclaration
    disabled: str | None
    """Why nothing is sent to it."""
    sending: int
    delivered: int
    failed: int
    """How many attempts failed since the hub started."""
    dead: int


class Notifications:
    """Sends what is owed."""

    def __init__(self, services: Services, notifiers: Mapping[str, NotifierDeclaration]) -> None:
        self._services = services
        self._notifiers = notifiers
        self._ready = {name: _ReadyNotifier(one, services) for name, one in notifiers.items()}
        self._disabled: dict[str, str] = {}
        self._jobs: dict[asyncio.Task[None], str] = {}
        self._is_stopping = False
        self._has_given_up = False
        self._looking = asyncio.Lock()
        self._is_idle = asyncio.Event()
        """Set while nothing is due and nothing is being sent."""
        self.delivered: Counter[str] = Counter()
        self.failed: Counter[str] = Counter()
        self.dead: Counter[str] = Counter()

    def states(self) -> list[NotifierState]:
        """Every notifier of the settings, by name."""
        sending = Counter(self._jobs.values())
        return [
            NotifierState(
                one,
                self._disabled.get(one.fingerprint),
                sending[name],
                self.delivered[name],
                self.failed[name],
                self.dead[name],
            )
            for name, one in sorted(self._notifiers.items())
        ]

    # what is due

    async def run(self) -> None:
        """Send what is due, until cancelled."""
        self._disabled = await self._persist(self._services.storage.disabled_notifiers)
        owed = self._services.owed
        while True:
            owed.clear()
            next_at: datetime | None = None
            try:
                async with self._looking:
                    next_at = await self._look()
            except StorageError as error:
                log.warning("storage is away; notices wait", error=str(error))
                await asyncio.sleep(_AWAY)
                continue
            await self._rest(next_at)

    async def _look(self) -> datetime | None:
        """Start sending what is due; answers when there is more to do."""
        storage, now = self._services.storage, self._services.clock.now()
        while True:
            room = self._room()
            full = [name for name, left in room.items() if left <= 0]
            next_at = await storage.next_notice_at(but=full)
            if next_at is None or next_at > now or self._is_stopping:
                break
            claims = await storage.claim_notices(at=now, room=room, others=_UNKNOWN_AT_ONCE)
            for claim in claims:
                self._start(claim)
            if not claims:
                # all that was due was put off
                next_at = await storage.next_notice_at(but=full)
                next_at = None if next_at is None else max(next_at, now + _REST)
                break
        if not self._jobs:
            self._is_idle.set()
        return next_at

    def _room(self) -> dict[str, int]:
        sending = Counter(self._jobs.values())
        room = {name: one.component.at_once - sending[name] for name, one in self._notifiers.items()}
        # names that no setting has any more are answered too, a few at a time
        room |= {name: _UNKNOWN_AT_ONCE - count for name, count in sending.items() if name not in room}
        return {name: max(left, 0) for name, left in room.items()}

    async def _rest(self, until: datetime | None) -> None:
        """Wait until something is owed, something was sent, or the moment has come."""
        owed, timer = self._services.owed, self._services.timer
        now = self._services.clock.now()
        if until is None:
            await owed.wait()
            return
        alarm = timer.call_at(max(until, now), owed.set)
        try:
            await owed.wait()
        finally:
            alarm.cancel()

    # sending

    def _start(self, claim: NoticeClaim) -> None:
        self._is_idle.clear()
        job = asyncio.create_task(self._handle(claim), name=f"notice {claim.delivery_id}")
        self._jobs[job] = claim.notifier
        job.add_done_callback(self._ended)

    def _ended(self, job: asyncio.Task[None]) -> None:
        del self._jobs[job]
        self._services.owed.set()
        if not job.cancelled() and (error := job.exception()) is not None:
            log.error("a notice stays claimed until the next start", error=str(error))

    async def _handle(self, claim: NoticeClaim) -> None:
        try:
            settlement = await self._attempt(claim)
        except asyncio.CancelledError:
            if not self._is_stopping:
                raise
            # broken off by the hub's stop: it may have arrived, and is sent again under its id
            settlement = self._settlement(claim, NoticeState.OWED)
        await self._persist(lambda: self._services.storage.settle_notices([settlement]))

    async def _attempt(self, claim: NoticeClaim) -> NoticeSettlement:
        """Try once; answers what became of it."""
        notifier = self._ready.get(claim.notifier)
        if notifier is None:
            return self._dead(
                claim,
                f'no notifier is called "{claim.notifier}"; add it under notifiers: in hub.yaml, start again and'
                " retry the notice",
                attempted=False,
            )
        if claim.crashes >= _MOST_CRASHES:
            reason = f"the hub went down {claim.crashes} times while it was being sent; it is not tried again"
            return self._dead(claim, reason, attempted=False)
        disabled = self._disabled.get(notifier.declaration.fingerprint)
        if disabled is not None:
            reason = f"the notifier is disabled: {disabled}; retry the notice to enable it"
            return self._dead(claim, reason, attempted=False)
        try:
            await notifier.send(claim)
        except Gone as gone:
            reason = self._said(gone)
            self._disabled[notifier.declaration.fingerprint] = reason
            log.error("notifier is disabled", notifier=claim.notifier, reason=reason)
            settlement = self._dead(claim, reason, gone)
            return replace(settlement, disables=notifier.declaration.fingerprint)
        except Fail as fail:
            return self._dead(claim, self._said(fail), fail)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            # a plugin's failure must not become the hub's
            return self._again(claim, notifier, error)
        self.delivered[claim.notifier] += 1
        return self._settlement(claim, NoticeState.DELIVERED)

    def _again(self, claim: NoticeClaim, notifier: _ReadyNotifier, error: Exception) -> NoticeSettlement:
        """Try it again when the receiver says, or the schedule does; give it up after its last attempt."""
        reason = self._said(error)
        if claim.attempts >= len(notifier.schedule):
            return self._dead(claim, f"given up after {claim.attempts + 1} attempts: {reason}", error)
        delay = notifier.schedule[claim.attempts] * random.uniform(1, 1 + _JITTER)
        if isinstance(error, Retry):
            delay = max(timedelta(), min(error.after, _LONGEST_AFTER))
        due_at = self._services.clock.now() + delay
        self.failed[claim.notifier] += 1
        log.warning(
            "notice could not be sent; it is tried again",
            notice=claim.delivery_id,
            notifier=claim.notifier,
            error=reason,
            at=due_at.isoformat(),
        )
        return self._settlement(
            claim, NoticeState.OWED, due_at=due_at, error=reason, progress=_progress(error), counts=True
        )

    def _dead(
        self, claim: NoticeClaim, reason: str, error: Exception | None = None, *, attempted: bool = True
    ) -> NoticeSettlement:
        self.failed[claim.notifier] += attempted
        self.dead[claim.notifier] += len(claim.notices)
        log.error("notice is given up", notice=claim.delivery_id, notifier=claim.notifier, error=reason)
        return self._settlement(
            claim, NoticeState.DEAD, error=reason, progress=_progress(error), counts=attempted
        )

    def _settlement(self, claim: NoticeClaim, state: NoticeState, **more: Any) -> NoticeSettlement:
        now = self._services.clock.now()
        return NoticeSettlement(claim.delivery_id, claim.fence, now, state, **more)

    def _said(self, error: Exception) -> str:
        """What is kept and logged of a failure: short, and without a secret."""
        if isinstance(error, Outcome):
            text = error.reason
        elif isinstance(error, HubError):
            text = error.message
        elif isinstance(error, TimeoutError):
            text = str(error) or "timed out"
        else:
            text = f"{type(error).__name__}: {error}".removesuffix(": ")
        return self._services.vault.mask(" ".join(text.split()))[:_LONGEST_ERROR]

    # by hand

    async def retry(self, notice_id: str) -> Notice:
        """Send one again, at once, whatever it is that became of it; a disabled notifier is enabled by it.

        Raises ``NotFound``, and ``Conflict`` when it was delivered.
        """
        storage = self._services.storage
        found = await storage.retry_notice(notice_id, at=self._services.clock.now())
        declared = self._notifiers.get(found.notifier)
        if declared is not None and self._disabled.pop(declared.fingerprint, None) is not None:
            await storage.enable_notifier(declared.fingerprint)
        self._services.owed.set()
        return found

    async def drop(self, notice_id: str) -> Notice:
        """Nobody needs to be told any more. Raises ``NotFound``, and ``Conflict`` when it was delivered."""
        return await self._services.storage.drop_notice(notice_id, at=self._services.clock.now())

    # the end

    async def settled(self) -> None:
        """Return once nothing is due and nothing is being sent."""
        self._is_idle.clear()
        self._services.owed.set()
        await self._is_idle.wait()

    def hurry(self) -> None:
        """End a drain that is under way."""
        self._is_idle.set()

    async def drain(self, grace: float) -> None:
        """Go on until nothing is due or the time is over; what is being sent then is broken off and stays owed."""
        try:
            async with asyncio.timeout(grace):
                await self.settled()
        except TimeoutError:
            pass
        self._is_stopping = True
        async with self._looking:
            # what was claimed last has begun, and can be broken off
            await asyncio.sleep(0)
        jobs = list(self._jobs)
        for job in jobs:
            job.cancel()
        # settling what was broken off needs the storage, which may be away
        self._has_given_up = True
        await asyncio.gather(*jobs, return_exceptions=True)

    async def _persist(self, work: Callable[[], Any]) -> Any:
        return await persist(work, execution="-", has_given_up=lambda: self._has_given_up)


def _progress(error: Exception | None) -> Mapping[str, Any] | None:
    return error.outputs if isinstance(error, Outcome) else None


class _ReadyNotifier:
    """A notifier of the settings, its expressions compiled."""

    def __init__(self, declaration: NotifierDeclaration, services: Services) -> None:
        self.declaration = declaration
        self._services = services
        self._fields = {name: Field(raw, services.functions) for name, raw in declaration.properties.items()}
        self.schedule: list[timedelta] = self._static("schedule")
        self._timeout: timedelta = self._static("timeout")

    def _static(self, name: str) -> Any:
        """A field that is taken as written, and so is known before anything is rendered."""
        field = self.declaration.component.model_fields[name]
        if name not in self.declaration.properties:
            return field.get_default(call_default_factory=True)
        kind: Any = Annotated[field.annotation, *field.metadata]
        return TypeAdapter(kind).validate_python(self.declaration.properties[name])

    async def send(self, claim: NoticeClaim) -> None:
        """Send what a claim holds, in the time one attempt may take."""
        ctx = _Context(self.declaration, claim, self._services)
        try:
            async with asyncio.timeout(self._timeout.total_seconds()):
                await (await self._instance()).send(notification_of(claim), ctx)
        except TimeoutError as error:
            seconds = self._timeout.total_seconds()
            raise TimeoutError(str(error) or f"it took longer than {seconds:g} s; see timeout") from error

    async def _instance(self) -> Notifier:
        values = {name: await field.render({}, self._services.vault) for name, field in self._fields.items()}
        made: Notifier = build(self.declaration.component, values, self.declaration.name)
        return made


class _Context(NotifierContext):
    """``NotifierContext`` over a claim."""

    def __init__(self, declaration: NotifierDeclaration, claim: NoticeClaim, services: Services) -> None:
        self._type = declaration.component.type
        self._services = services
        self.name = declaration.name
        self.attempt = claim.attempts + 1
        self.progress = claim.progress
        self.settings = services.registry.settings_of(declaration.component)

    def now(self) -> datetime:
        return self._services.clock.now()

    async def secret(self, name: str) -> str:
        return await self._services.vault.get(name)

    async def file(self, uri: str) -> Path:
        return await self._services.payloads.store.path(uri)

    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._services.shared.get(self._type, key, open)


# what is said


def notification_of(claim: NoticeClaim) -> Notification:
    """A claim as its notifier is given it: several notices become one that quotes the beginning of each."""
    parts = tuple(_of_notice(notice) for notice in claim.notices)
    if len(parts) == 1:
        return replace(parts[0], id=claim.delivery_id)
    parts = tuple(replace(part, message=_beginning(part.message), html=None) for part in parts)
    first = parts[0]
    flows = {part.flow for part in parts}
    return Notification(
        id=claim.delivery_id,
        subject=f"{len(parts)} notices: {first.subject}" + (" and others" if len(flows) > 1 else ""),
        message="\n\n".join(f"{part.subject}\n{'-' * len(part.subject)}\n{part.message}" for part in parts),
        at=first.at,
        level=max((part.level for part in parts), key=_LEVELS.index),
        attachments=tuple(one for part in parts for one in part.attachments),
        flow=first.flow if len(flows) == 1 else None,
        parts=parts,
    )


def _beginning(text: str) -> str:
    return text if len(text) <= _LONGEST_QUOTED else text[:_LONGEST_QUOTED] + "… (cut off)"


_LEVELS = ("DEBUG", "INFO", "WARN", "ERROR")


def _of_notice(notice: Notice) -> Notification:
    content = notice.content
    return Notification(
        id=notice.id,
        subject=content["subject"],
        message=content.get("message", ""),
        at=notice.created_at,
        html=content.get("html"),
        level=content.get("level", "INFO"),
        attachments=tuple(Attachment(*one) for one in content.get("attachments", ())),
        flow=notice.flow,
        execution_id=notice.execution_id,
        state=content.get("state"),
        url=content.get("url"),
    )
