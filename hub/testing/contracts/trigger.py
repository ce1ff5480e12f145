"""What every trigger promises, as tests: subclass ``TriggerContract`` and say how things happen at its source.

::

    class Inbox(Source):
        fields = {"folder": "inbox"}

        async def happen(self, running, number):
            ...put the number-th thing where the trigger looks

        def acknowledged(self):
            return how many of them it has taken away

    class TestArrivals(TriggerContract):
        trigger_type = Arrivals

        @pytest.fixture
        def source(self, tmp_path):
            return Inbox(tmp_path)
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from hub.errors import StorageUnavailable
from hub.plugin.trigger import HttpTrigger, Trigger
from hub.testing.contracts.described import check_data, check_described, check_examples
from hub.testing.kit import Kit, NothingCame, TriggerRun

_PATIENCE = 10.0
_A_MOMENT = 0.3
"""Seconds in which an early acknowledgement would show."""
_TIME_TO_END = 5.0


class Source:
    """What a trigger listens to, in the hands of a test."""

    fields: Mapping[str, Any] = {}
    """The trigger's fields."""
    keeps: ClassVar[bool] = True
    """Whether what happens while the hub is down is found later; of a request that nobody takes, for one, not."""

    async def happen(self, running: TriggerRun, number: int) -> None:
        """Let the ``number``-th thing happen. Again with the same number: a sender that had no answer tries again."""
        raise NotImplementedError

    def acknowledged(self) -> int | None:
        """How many things the source regards as taken; None where it is never told."""
        return None


class TriggerContract:
    """The tests; a subclass gives ``trigger_type`` and the fixture ``source``."""

    trigger_type: type[Trigger]

    @pytest.fixture
    def source(self) -> Source:
        """What the trigger listens to."""
        raise NotImplementedError("give a fixture `source` that lets things happen")

    @property
    def is_asked(self) -> bool:
        """Whether senders wait for its answer, and try again without one."""
        return issubclass(self.trigger_type, HttpTrigger)

    def test_its_page_has_no_hole(self) -> None:
        check_described(self.trigger_type)

    def test_its_examples_can_be_saved(self, hub_kit: Kit) -> None:
        check_examples(self.trigger_type, hub_kit.registry(self.trigger_type))

    async def test_what_happens_is_one_event_each(self, hub_kit: Kit, source: Source) -> None:
        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            for number in (1, 2, 3):
                await source.happen(running, number)
                event = await running.next()
                if self.trigger_type.Data is not None:
                    check_data(dict(event.data), self.trigger_type.Data, "its data")
            assert len(running.events) == 3

    async def test_nothing_is_acknowledged_before_it_is_stored(self, hub_kit: Kit, source: Source) -> None:
        reached, go_on = asyncio.Event(), asyncio.Event()

        async def hold(arrivals: Sequence[Any]) -> None:
            reached.set()
            await go_on.wait()

        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            running.storage.before_accept = hold
            happening = asyncio.create_task(source.happen(running, 1))
            try:
                await self._reached(reached, running)
                await asyncio.sleep(_A_MOMENT)
                before = source.acknowledged()
                assert not before, "it acknowledges what is not stored yet: only after `await emit(…)`"
                if self.is_asked:
                    assert not happening.done(), "it answers before `await emit(…)` has returned"
            finally:
                go_on.set()
                await asyncio.gather(happening, return_exceptions=True)
            await running.next()
            if before is not None:
                await self._acknowledged(source, 1)

    async def test_what_could_not_be_stored_comes_again(self, hub_kit: Kit, source: Source) -> None:
        refused = asyncio.Event()

        async def refuse_once(arrivals: Sequence[Any]) -> None:
            if not refused.is_set():
                refused.set()
                raise StorageUnavailable("the storage is away")

        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            running.storage.before_accept = refuse_once
            await self._until_taken(source, running, 1)
            await self._reached(refused, running)
            try:
                await running.next()
            except NothingCame as error:
                raise AssertionError(f"what the storage refused once is lost: {error}") from None

    async def test_a_crash_after_storing_repeats_nothing(self, hub_kit: Kit, source: Source) -> None:
        stored, gone = asyncio.Event(), asyncio.Event()

        async def crash(accepted: Sequence[Any]) -> None:
            stored.set()
            await gone.wait()  # whoever emitted is not told before the crash

        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            running.storage.after_accept = crash
            happening = asyncio.create_task(source.happen(running, 1))
            await self._reached(stored, running)
            running.storage.after_accept = _nothing
            running.storage.cut()
            gone.set()
            await asyncio.gather(happening, return_exceptions=True)
            await running.restart()
            if self.is_asked:
                await self._until_taken(source, running, 1)
            await self._until_taken(source, running, 2)
            await running.next()
            await self._exactly(running, 2)

    async def test_a_restart_repeats_nothing_and_goes_on(self, hub_kit: Kit, source: Source) -> None:
        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            for number in (1, 2):
                await source.happen(running, number)
                await running.next()
            await running.restart()
            await source.happen(running, 3)
            await running.next()
            await self._exactly(running, 3)

    async def test_what_happens_while_the_hub_is_down_is_found(self, hub_kit: Kit, source: Source) -> None:
        if self.is_asked or not source.keeps:
            pytest.skip("its source keeps nothing for later")
        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            await source.happen(running, 1)
            await running.next()
            await running.restart(meanwhile=lambda: source.happen(running, 2))
            try:
                await running.next()
            except NothingCame as error:
                raise AssertionError(f"what happened while the hub was down is lost: {error}") from None
            await self._exactly(running, 2)

    async def test_it_ends_at_once_and_leaves_nothing_behind(self, hub_kit: Kit, source: Source) -> None:
        loop = asyncio.get_running_loop()
        async with hub_kit.trigger(self.trigger_type, **source.fields) as running:
            await source.happen(running, 1)
            await running.next()
            began = loop.time()
            try:
                async with asyncio.timeout(_TIME_TO_END):
                    await running.stop()
            except TimeoutError:
                pass
        took = loop.time() - began
        assert took < _TIME_TO_END, f"cancelled, it went on for {took:.1f} s: let CancelledError through"

    # waiting

    async def _reached(self, event: asyncio.Event, running: TriggerRun) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                while not event.is_set():
                    # a virtual clock has to be moved on for those that poll
                    running.hurry()
                    with suppress(TimeoutError):
                        async with asyncio.timeout(_A_MOMENT):
                            await event.wait()
        except TimeoutError:
            raise AssertionError(f"it emitted nothing; {running.how_it_does()}") from None

    async def _until_taken(self, source: Source, running: TriggerRun, number: int) -> None:
        """Let it happen; a sender that is asked to tries again."""
        for attempt in range(5):
            try:
                return await source.happen(running, number)
            except Exception:
                if attempt == 4 or not self.is_asked:
                    raise

    async def _acknowledged(self, source: Source, count: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while (source.acknowledged() or 0) < count:
                    await asyncio.sleep(0.01)
        assert source.acknowledged() == count, "what is stored was never acknowledged to its source"

    async def _exactly(self, running: TriggerRun, count: int) -> None:
        """No more events than that, also after it had time to repeat one."""
        with suppress(NothingCame):
            await running.next(timeout=_A_MOMENT)
            while len(running.events) <= count:
                await running.next(timeout=_A_MOMENT)
        found = [dict(event.data) for event in running.events]
        assert len(found) == count, f"{count} things happened and there are {len(found)} events: {found}"


async def _nothing(step: Any) -> None:
    return None
