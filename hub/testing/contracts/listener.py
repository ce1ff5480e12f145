"""What every listener promises, as tests: subclass ``ListenerContract`` and say what can be seen of its work.

::

    class Wall(Witness):
        def __init__(self, receiver):
            self.receiver = receiver

        def seen(self):
            return [request.body.decode() for request in self.receiver.requests]

    class TestWall(ListenerContract):
        listener_type = TellTheWall

        @pytest.fixture
        def witness(self, http_receiver):
            return Wall(http_receiver)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from hub.engine.listeners import ListenerStatus
from hub.model.event import Verdict
from hub.model.execution import ExecutionState
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRunState
from hub.plugin.listener import EventAccepted, ExecutionChanged, Listener, News, TaskRunEnded
from hub.registry.collecting import check_listener
from hub.testing.hub_harness import Harness
from hub.testing.kit import Kit
from hub.testing.leaks import Leaks

_PATIENCE = 6.0
_LOOK_EVERY = 0.01
_GRACE = 3.0
"""Seconds that it has at the hub's end, before it is cancelled."""
_TIME_TO_END = 2.5
_MANY = 300
"""News that wait when the hub stops; fewer than the shortest queue that is of use."""


class Witness:
    """What can be seen of a listener's work, in the hands of a test."""

    def seen(self) -> Sequence[str]:
        """What it has done, in order: a text for each news it did something for, with the id of what it was about."""
        raise NotImplementedError

    def acts_on(self, news: News) -> bool:
        """Whether it does something for a news that it wants."""
        return True

    async def go_away(self) -> bool:
        """Let what it writes to be away; False where there is nothing that could be."""
        return False

    async def come_back(self) -> None:
        """Let it be there again."""


class ListenerContract:
    """The tests; a subclass gives ``listener_type`` and the fixture ``witness``."""

    listener_type: type[Listener]

    @pytest.fixture
    def witness(self) -> Witness:
        """What can be seen of its work."""
        raise NotImplementedError("give a fixture `witness` that says what can be seen of its work")

    def test_the_hub_takes_it(self) -> None:
        check_listener(self.listener_type)
        assert (self.listener_type.__doc__ or "").strip(), (
            "it has no docstring: its first line says what it does"
        )

    async def test_everything_it_wants_is_done_once_and_in_order(
        self, hub_kit: Kit, witness: Witness
    ) -> None:
        news = list(_every_kind())
        async with self._hub(hub_kit) as hub:
            await self._tell(hub, news)
            await self._until_done(hub, witness, news)
            await asyncio.sleep(0.1)  # a moment for what would be done twice
        self._check(witness, news)

    async def test_nothing_that_happens_makes_it_fail(self, hub_kit: Kit, witness: Witness) -> None:
        async with self._hub(hub_kit) as hub:
            await self._tell(hub, [*_every_kind(), *_every_kind("again")])
            await self._until_taken(hub)
            await asyncio.sleep(0.1)
            status = self._status(hub)
        assert status.failures == 0, f"it failed over what the hub may tell: {status.error}"

    async def test_what_waits_at_the_hubs_end_is_still_done(self, hub_kit: Kit, witness: Witness) -> None:
        if self.listener_type.queue_size < _MANY:
            pytest.skip(f"its queue is shorter than {_MANY}")
        news = [_a_failure(f"waiting-{number:03}") for number in range(_MANY)]
        async with self._hub(hub_kit) as hub:
            await self._tell(hub, news)
        self._check(witness, news)

    async def test_it_ends_with_the_hub_and_leaves_nothing_behind(
        self, hub_kit: Kit, witness: Witness
    ) -> None:
        with structlog.testing.capture_logs() as said:
            async with self._hub(hub_kit) as hub:
                await self._tell(hub, list(_every_kind()))
                await self._until_taken(hub)
                began = time.monotonic()
            took = time.monotonic() - began
        assert not [one for one in said if "left behind" in one["event"]], "it takes no notice of its end"
        assert took < _TIME_TO_END, f"it went on for {took:.1f} s: leave the loop over news when it ends"

    async def test_it_goes_on_after_a_restart(self, hub_kit: Kit, witness: Witness) -> None:
        first, second = list(_every_kind("first")), list(_every_kind("second"))
        for news in (first, second):
            async with self._hub(hub_kit) as hub:
                await self._tell(hub, news)
                await self._until_taken(hub)
                assert self._status(hub).failures == 0, self._status(hub).error
        self._check(witness, [*first, *second])

    async def test_it_goes_on_once_what_it_writes_to_is_back(self, hub_kit: Kit, witness: Witness) -> None:
        async with self._hub(hub_kit) as hub:
            if not await witness.go_away():
                pytest.skip("nothing that it writes to can be away")
            await self._tell(hub, [_a_failure("while-it-is-away")])
            await self._until_taken(hub)
            await witness.come_back()
            after = [_a_failure(f"after-{number}") for number in range(5)]
            until = time.monotonic() + _PATIENCE
            while not any("after-" in one for one in witness.seen()):
                assert time.monotonic() < until, f"it never went on: {self._status(hub)}"
                await self._tell(hub, [after[0]])
                await asyncio.sleep(0.1)

    # a hub that tells

    @asynccontextmanager
    async def _hub(self, kit: Kit) -> AsyncIterator[Harness]:
        async with Leaks(allowed=kit.leaks_allowed), kit.hub(components=[self.listener_type]) as hub:
            yield hub
            # a harness gives it none
            hub.node.drain_grace = _GRACE

    async def _tell(self, hub: Harness, news: Sequence[News]) -> None:
        for one in news:
            hub.node.services.bus.inform(one)
        await asyncio.sleep(0)

    def _status(self, hub: Harness) -> ListenerStatus:
        [found] = [one for one in hub.node.listeners.statuses() if one.type == self.listener_type.type]
        return found

    async def _until_taken(self, hub: Harness) -> None:
        """Wait until it has taken all that waits for it."""
        until = time.monotonic() + _PATIENCE
        while (status := self._status(hub)).waiting and not status.failures and time.monotonic() < until:
            await asyncio.sleep(_LOOK_EVERY)

    async def _until_done(self, hub: Harness, witness: Witness, news: Sequence[News]) -> None:
        until = time.monotonic() + _PATIENCE
        while len(witness.seen()) < len(self._wanted(witness, news)):
            assert time.monotonic() < until, (
                f"of {len(self._wanted(witness, news))} news it has done {len(witness.seen())};"
                f" {self._status(hub)}"
            )
            await asyncio.sleep(_LOOK_EVERY)

    def _wanted(self, witness: Witness, news: Sequence[News]) -> list[str]:
        """The ids of what it has to do something for, in order."""
        return [
            _id_of(one) for one in news if isinstance(one, self.listener_type.wants) and witness.acts_on(one)
        ]

    def _check(self, witness: Witness, news: Sequence[News]) -> None:
        wanted, seen = self._wanted(witness, news), witness.seen()
        assert wanted, "it acts on nothing of what the contract tells it; see Witness.acts_on"
        for place, id in enumerate(wanted):
            assert place < len(seen), f"{id} and {len(wanted) - place - 1} more were lost"
            assert id in seen[place], f"{id} should come next, there is {seen[place][:200]!r}"
        assert len(seen) == len(wanted), f"{len(seen) - len(wanted)} were done twice"


def _id_of(news: News) -> str:
    return news.execution_id if isinstance(news, TaskRunEnded) else news.id


_AT = datetime(2026, 1, 1, 12, tzinfo=UTC)
_FLOW = FlowKey("shop.intake", "orders")


def _a_failure(id: str) -> ExecutionChanged:
    return ExecutionChanged(id, _FLOW, ExecutionState.FAILED, _AT, error="no such file: €.csv")


def _every_kind(prefix: str = "told") -> Iterator[News]:
    """Every kind of news, with everything it may hold, and with nothing that it need not."""
    numbers = iter(range(1000))

    def id() -> str:
        return f"{prefix}-{next(numbers):03}"

    labels: Mapping[str, Any] = {"team": "Grüße", "": ""}
    yield EventAccepted(id(), "/flows/shop/orders", "hub.webhook", _AT)
    yield EventAccepted(id(), "urn:x", "shop.paid", _AT, "subject", _FLOW, "hook", ("e1", "e2"), depth=3)
    yield EventAccepted(id(), "urn:y", "raw", _AT, dead="it cannot be read: 名", replay_of="e0")
    yield EventAccepted(
        id(), "urn:z", "none", _AT, verdicts=(Verdict("shop", "orders", "hook", "refused", "it is false"),)
    )
    for state in ExecutionState:
        yield ExecutionChanged(id(), _FLOW, state, _AT)
        yield ExecutionChanged(
            id(), _FLOW, state, _AT, "hook", "e1", labels, "line 1\nline 2: \0 \N{PARTY POPPER}"
        )
    for run_state in TaskRunState:
        yield TaskRunEnded(id(), _FLOW, "a", "a", "log", run_state, 0, None, None)
        yield TaskRunEnded(
            id(), _FLOW, "each[3]/book", "book", "script.run", run_state, 5, _AT, _AT, "it failed: €"
        )
