"""What every notifier promises, as tests: subclass ``NotifierContract`` and say who receives.

::

    class TestTell(NotifierContract):
        notifier_type = Tell

        @pytest.fixture
        def recipient(self, http_receiver):
            return HttpRecipient(http_receiver, {"url": http_receiver.url})

A receiver that speaks something else than HTTP is a ``Recipient`` of your own.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, auto
from pathlib import Path
from typing import Any

import pytest
import structlog

from hub.engine.watchdog import LoopWatchdog
from hub.plugin.notices import Notice, NoticeState
from hub.plugin.notifier import Notifier
from hub.testing.clock import VirtualClock
from hub.testing.contracts.described import check_described, check_notifier_examples
from hub.testing.hub_harness import Harness
from hub.testing.kit import Kit, installed
from hub.testing.leaks import Leaks
from hub.testing.receiver import HttpReceiver, Received

_BLOCKED_AFTER = 0.25
"""Seconds that a coroutine may keep the loop."""
_TIME_TO_END = 6.0
"""Seconds within which an attempt whose time is over has ended."""
_FAR = timedelta(days=2)
"""Longer than any delay between two attempts."""
_STRANGE = (
    "one line\n.\n..two\n\n  and <b>markup</b> & \"quotes\" 'too', € 名 \N{PARTY POPPER}\n"
    "From here\r\nBcc: nobody@example.org\n*stars* _lines_ `ticks` {{ braces }} \\ %s $HOME"
)
"""What a message may hold: nothing of it means anything to whoever passes it on."""
_WORDS = ("..two", "quotes", "名", "Bcc: nobody@example.org", "$HOME", "{{ braces }}")


class Manner(Enum):
    """How a receiver behaves."""

    ACCEPT = auto()
    REFUSE = auto()
    """It says that it cannot now: the same may succeed later."""
    REFUSE_FOR_GOOD = auto()
    """It says that the same would fail again."""
    GONE = auto()
    """It says that it wants nothing any more."""
    DIE = auto()
    """It takes what it is sent, and is gone before it has answered."""
    STALL = auto()
    """It takes what it is sent, and never answers."""
    AWAY = auto()
    """Nobody listens."""


@dataclass(frozen=True)
class Arrived:
    """One thing as it arrived."""

    text: str
    """All that a reader sees of it, decoded."""
    id: str | None = None
    """The id it came under; None where this receiver is told none."""


class Recipient:
    """Whoever is told, in the hands of a test."""

    fields: Mapping[str, Any] = {}
    """The notifier's fields, as ``hub.yaml`` has them."""
    private: Sequence[str] = ()
    """Texts that no error and no log may show: a token, the secret part of an address."""

    def arrived(self) -> Sequence[Arrived]:
        """What has arrived so far, oldest first, repeats too."""
        raise NotImplementedError

    async def behave(self, manner: Manner) -> bool:
        """Behave like this from now on; False where it cannot, and goes on as it was."""
        raise NotImplementedError


class HttpRecipient(Recipient):
    """Whoever is told over HTTP: an ``HttpReceiver`` in the place of the service."""

    def __init__(
        self,
        receiver: HttpReceiver,
        fields: Mapping[str, Any],
        *,
        id_of: Callable[[Received], str | None] = lambda request: None,
        good: Any = b"",
        refusal: tuple[int, Any] = (503, "busy"),
        for_good: tuple[int, Any] | None = None,
        gone: tuple[int, Any] | None = None,
        private: Sequence[str] = (),
    ) -> None:
        """``good`` is the body of a good answer; the others are status and body, None where it never says so."""
        self.fields = fields
        self.private = private
        self._receiver = receiver
        self._id_of = id_of
        self._good = good
        self._answers = {
            Manner.REFUSE: refusal,
            Manner.REFUSE_FOR_GOOD: for_good,
            Manner.GONE: gone,
        }
        self._refused: set[int] = set()
        self._refusing_since: int | None = None
        receiver.answer(200, good)

    def arrived(self) -> Sequence[Arrived]:
        self._note_refused()
        return [
            Arrived(_text_of(request), self._id_of(request))
            for number, request in enumerate(self._receiver.requests)
            if number not in self._refused
        ]

    def _note_refused(self) -> None:
        """What came while it refused has not arrived."""
        if self._refusing_since is not None:
            self._refused.update(range(self._refusing_since, len(self._receiver.requests)))

    async def behave(self, manner: Manner) -> bool:
        if manner is Manner.AWAY or self._answers.get(manner, ()) is None:
            return False
        self._note_refused()
        self._refusing_since = len(self._receiver.requests) if manner in self._answers else None
        if manner is Manner.ACCEPT:
            self._receiver.answer(200, self._good)
        elif manner is Manner.DIE:
            self._receiver.answer(hang_up=True)
        elif manner is Manner.STALL:
            self._receiver.answer(after=600)
        else:
            status, body = self._answers[manner]  # type: ignore[misc]
            self._receiver.answer(status, body)
        return True


def _text_of(request: Received) -> str:
    try:
        return "\n".join(_texts(json.loads(request.body)))
    except ValueError:
        return request.body.decode("utf-8", "replace")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _texts(one)
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one)


class NotifierContract:
    """The tests; a subclass gives ``notifier_type`` and the fixture ``recipient``."""

    notifier_type: type[Notifier] | str
    """The notifier: a class, or the name of an installed one."""

    @property
    def component(self) -> type[Notifier]:
        if isinstance(self.notifier_type, str):
            return installed().notifiers[self.notifier_type]
        return self.notifier_type

    @pytest.fixture
    def recipient(self) -> Recipient:
        """Whoever is told."""
        raise NotImplementedError("give a fixture `recipient` that says who is told")

    def test_its_page_has_no_hole(self) -> None:
        check_described(self.component)

    def test_its_examples_can_be_used(self, hub_kit: Kit, tmp_path: Path) -> None:
        check_notifier_examples(self.component, hub_kit.registry(self.component), tmp_path)

    async def test_what_is_told_arrives_once(self, hub_kit: Kit, recipient: Recipient) -> None:
        async with self._hub(hub_kit, recipient) as telling:
            notice = await telling.tell("a subject of its own", "and a message")
            assert notice.state is NoticeState.DELIVERED, f"it did not arrive: {notice.error}"
        [one] = recipient.arrived()
        assert "a subject of its own" in one.text
        assert "and a message" in one.text

    async def test_whatever_it_says_arrives_as_it_is(self, hub_kit: Kit, recipient: Recipient) -> None:
        async with self._hub(hub_kit, recipient) as telling:
            notice = await telling.tell("Grüße: <all>, 'you' & \"me\"", _STRANGE)
            assert notice.state is NoticeState.DELIVERED, f"it did not arrive: {notice.error}"
            long = await telling.tell("a long one", "word " * 9_000)
            assert long.state is NoticeState.DELIVERED, f"50 KB are too much for it: {long.error}"
        [one, _] = recipient.arrived()
        missing = [word for word in ("Grüße", *_WORDS) if word not in one.text]
        assert not missing, f"this is not in what arrived: {', '.join(missing)}"

    async def test_what_is_refused_for_now_is_sent_again(self, hub_kit: Kit, recipient: Recipient) -> None:
        assert await recipient.behave(Manner.REFUSE), "a recipient has to be able to refuse"
        async with self._hub(hub_kit, recipient) as telling:
            notice = await telling.tell("refused at first")
            assert notice.state is NoticeState.OWED, (
                f"refused, it was {notice.state.value}: raise what the receiver answers, swallow nothing"
            )
            assert notice.error, "nothing says why it was not sent"
            await recipient.behave(Manner.ACCEPT)
            notice = await telling.later()
            assert notice.state is NoticeState.DELIVERED, f"sent again, it did not arrive: {notice.error}"
        assert len(recipient.arrived()) == 1

    async def test_a_receiver_that_is_away_gets_it_later(self, hub_kit: Kit, recipient: Recipient) -> None:
        if not await recipient.behave(Manner.AWAY):
            pytest.skip("its recipient cannot be away")
        # what listens again inside the block is the recipient's
        async with self._hub(hub_kit, recipient, leaks_allowed=True) as telling:
            notice = await telling.tell("nobody is there")
            assert notice.state is NoticeState.OWED, f"with nobody there it was {notice.state.value}"
            await recipient.behave(Manner.ACCEPT)
            assert (await telling.later()).state is NoticeState.DELIVERED
        assert len(recipient.arrived()) == 1

    async def test_a_lost_answer_repeats_it_under_the_same_id(
        self, hub_kit: Kit, recipient: Recipient
    ) -> None:
        if not await recipient.behave(Manner.DIE):
            pytest.skip("its recipient cannot lose an answer")
        async with self._hub(hub_kit, recipient) as telling:
            notice = await telling.tell("taken, and not answered")
            assert notice.state is NoticeState.OWED, f"without an answer it was {notice.state.value}"
            await recipient.behave(Manner.ACCEPT)
            assert (await telling.later()).state is NoticeState.DELIVERED
        ids = {one.id for one in recipient.arrived()}
        assert len(recipient.arrived()) >= 2, "the recipient has not kept what it did not answer"
        assert len(ids) == 1, f"repeats come under ids of their own: {ids}; use notification.id"

    async def test_each_is_told_under_an_id_of_its_own(self, hub_kit: Kit, recipient: Recipient) -> None:
        async with self._hub(hub_kit, recipient) as telling:
            await telling.tell("one")
            await telling.tell("two")
        ids = [one.id for one in recipient.arrived()]
        if ids == [None, None]:
            pytest.skip("its receiver is told no id")
        assert len(set(ids)) == 2, f"two notices come under one id: {ids[0]}"

    async def test_a_receiver_that_never_answers_is_given_up_in_time(
        self, hub_kit: Kit, recipient: Recipient
    ) -> None:
        if not await recipient.behave(Manner.STALL):
            pytest.skip("its recipient cannot stall")
        loop = asyncio.get_running_loop()
        async with self._hub(hub_kit, recipient, timeout="PT1S") as telling:
            began = loop.time()
            try:
                async with asyncio.timeout(_TIME_TO_END):
                    notice = await telling.tell("never answered")
            except TimeoutError:
                raise AssertionError(
                    f"after {_TIME_TO_END:g} s it still waits: let CancelledError through"
                ) from None
            took = loop.time() - began
            assert notice.state is NoticeState.OWED, f"after {took:.1f} s it was {notice.state.value}"
            await recipient.behave(Manner.ACCEPT)
            assert (await telling.later()).state is NoticeState.DELIVERED

    async def test_what_would_fail_again_is_given_up_at_once(
        self, hub_kit: Kit, recipient: Recipient
    ) -> None:
        if not await recipient.behave(Manner.REFUSE_FOR_GOOD):
            pytest.skip("its recipient refuses nothing for good")
        async with self._hub(hub_kit, recipient) as telling:
            notice = await telling.tell("refused for good")
            assert notice.state is NoticeState.DEAD, f"it was {notice.state.value}: raise Fail"

    async def test_a_receiver_that_wants_no_more_is_told_no_more(
        self, hub_kit: Kit, recipient: Recipient
    ) -> None:
        if not await recipient.behave(Manner.GONE):
            pytest.skip("its recipient cannot say that it wants no more")
        async with self._hub(hub_kit, recipient) as telling:
            assert (await telling.tell("one")).state is NoticeState.DEAD
            [state] = telling.hub.node.notifications.states()
            assert state.disabled, "it was not disabled: raise Gone"
            await recipient.behave(Manner.ACCEPT)
            assert (await telling.tell("two")).state is NoticeState.DEAD
        assert not recipient.arrived()

    async def test_many_are_told_side_by_side(self, hub_kit: Kit, recipient: Recipient) -> None:
        async with self._hub(hub_kit, recipient) as telling:
            names = {f"number {number:02}." for number in range(20)}
            notices = await telling.tell_all(sorted(names))
            assert {one.state for one in notices} == {NoticeState.DELIVERED}, notices[0].error
        found = sorted(next(n for n in names if n in one.text) for one in recipient.arrived())
        assert found == sorted(names)

    async def test_several_go_as_one_that_names_each(self, hub_kit: Kit, recipient: Recipient) -> None:
        async with self._hub(hub_kit, recipient) as telling:
            await telling.tell_as_one(["the first", "the second", "the third"])
        [one] = recipient.arrived()
        for subject in ("the first", "the second", "the third"):
            assert subject in one.text

    async def test_it_shows_nothing_private(self, hub_kit: Kit, recipient: Recipient) -> None:
        said: list[str] = []
        with structlog.testing.capture_logs() as lines:
            async with self._hub(hub_kit, recipient) as telling:
                for manner in (Manner.REFUSE, Manner.DIE, Manner.AWAY):
                    if await recipient.behave(manner):
                        said.append(
                            (await telling.tell(f"while it does not work: {manner.name}")).error or ""
                        )
        shown = "\n".join([*said, *map(str, lines)])
        for private in recipient.private:
            assert private not in shown, f"an error or a log line shows {private[:3]}…: name the host only"

    async def test_it_does_not_keep_the_hub_from_everything_else(
        self, hub_kit: Kit, recipient: Recipient
    ) -> None:
        registry = hub_kit.registry(self.component)
        with LoopWatchdog(registry.owner_of, after=_BLOCKED_AFTER).watching() as watchdog:
            async with self._hub(hub_kit, recipient) as telling:
                await telling.tell("quick")
        blocks = [block.stack for block in watchdog.blocks if block.component == self.component.type]
        assert not blocks, f"it blocks the loop; await, or use asyncio.to_thread:\n{blocks[0]}"

    # a hub that tells

    @asynccontextmanager
    async def _hub(
        self, kit: Kit, recipient: Recipient, *, leaks_allowed: bool = False, **more: Any
    ) -> AsyncIterator[_Telling]:
        """A hub with this notifier; what it opens is closed again."""
        given = {"type": self.component.type, **recipient.fields, **more}
        own = replace(kit, clock=VirtualClock())
        async with (
            Leaks(allowed=leaks_allowed or kit.leaks_allowed),
            own.hub(
                components=[self.component], settings={"notifiers": {"told": given}}, with_triggers=False
            ) as hub,
        ):
            await hub.put(_FLOW)
            await hub.put(_DIGEST)
            yield _Telling(hub, own.clock or VirtualClock())


_FLOW = """
id: tell
namespace: test
inputs: [{id: subject, type: STRING}, {id: message, type: STRING}]
tasks: [{id: told, type: notify, to: told, subject: "{{ inputs.subject }}", message: "{{ inputs.message }}"}]
"""
_DIGEST = """
id: digest
namespace: test
inputs: [{id: subject, type: STRING}]
notify: {on: [SUCCESS], to: told, digest: PT1H, template: {subject: "{{ inputs.subject }}"}}
tasks: [{id: done, type: log, message: done}]
"""


@dataclass(frozen=True)
class _Telling:
    """A hub in which something is told."""

    hub: Harness
    clock: VirtualClock

    async def tell(self, subject: str, message: str = "a message") -> Notice:
        """Tell something; answers how that stands once the first attempt is over."""
        known = {one.id for one in await self.hub.notices()}
        ended = await self.hub.run("test/tell", {"subject": subject, "message": message})
        assert ended.state.value == "SUCCESS", ended.error
        [new] = [one for one in await self.hub.notices() if one.id not in known]
        return new

    async def tell_all(self, subjects: Sequence[str]) -> Sequence[Notice]:
        for subject in subjects:
            await self.hub.run("test/tell", {"subject": subject, "message": "one of many"})
        return await self.hub.notices()

    async def tell_as_one(self, subjects: Sequence[str]) -> None:
        for subject in subjects:
            await self.hub.run("test/digest", {"subject": subject})
        await self.later()

    async def later(self) -> Notice:
        """How the newest notice stands once its next attempt is over."""
        self.clock.advance(_FAR)
        return (await self.hub.notices())[0]
