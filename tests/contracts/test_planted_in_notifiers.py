"""The notifier contract notices bugs: each planted here makes one of its tests fail, which passes without it."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar

import aiohttp
import pytest
import structlog
from pydantic import Field

from hub.errors import InvalidSettings
from hub.plugin import Notification, Notifier, NotifierContext, check_answer, jsontext, post
from hub.testing import HttpReceiver, HttpRecipient, Kit, NotifierContract

TOKEN = "a-token-that-is-private"


class Tell(Notifier):
    """Tell a channel."""

    type: ClassVar[str] = "planted.tell"
    examples: ClassVar[tuple[str, ...]] = ("type: planted.tell\nurl: https://example.test",)

    url: str = Field(description="Where to.")

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, notification.id, f"{notification.subject}\n{notification.message}")

    async def post(self, notification: Notification, ctx: NotifierContext, id: str, text: str) -> None:
        body = jsontext.dump_bytes({"text": text})
        check_answer(await post(ctx, self.url, body, {"X-Id": id}))


def recipient_of(receiver: HttpReceiver) -> HttpRecipient:
    return HttpRecipient(
        receiver,
        {"url": f"{receiver.url}/{TOKEN}"},
        id_of=lambda request: request.headers.get("x-id"),
        gone=(410, "no more"),
        private=[TOKEN],
    )


class TestTell(NotifierContract):
    notifier_type = Tell

    @pytest.fixture
    def recipient(self, http_receiver: HttpReceiver) -> HttpRecipient:
        return recipient_of(http_receiver)


LEFT: list[Callable[[], Any]] = []


@pytest.fixture(autouse=True)
async def _tidy() -> Any:
    yield
    while LEFT:
        closing = LEFT.pop()()
        if closing is not None:
            await closing


class SwallowsErrors(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        with suppress(Exception):
            await super().send(notification, ctx)


class TakesEveryAnswerForGood(Tell):
    """Tell a channel."""

    async def post(self, notification: Notification, ctx: NotifierContext, id: str, text: str) -> None:
        await post(ctx, self.url, jsontext.dump_bytes({"text": text}), {"X-Id": id})


class GivesEachAttemptItsOwnId(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, uuid.uuid4().hex, notification.message)


class GivesAllTheSameId(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, ctx.name, notification.message)


class TriesAgainByItself(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await super().send(notification, ctx)
        await super().send(notification, ctx)


class ForgetsTheSubject(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, notification.id, notification.message)


class ForgetsTheMessage(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, notification.id, notification.subject)


class TellsTheFirstOfSeveral(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        first = notification.parts[0] if notification.parts else notification
        await self.post(notification, ctx, notification.id, f"{first.subject}\n{first.message}")


class ReadsBraces(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await self.post(notification, ctx, notification.id, notification.message.replace("{{", "").strip("."))


class BreaksOnLetters(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        text = f"{notification.subject}\n{notification.message}"
        await self.post(notification, ctx, notification.id, text.encode("ascii").decode())


class RefusesLongOnes(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        if len(notification.message) > 4_000:
            raise ValueError("too long")
        await super().send(notification, ctx)


class TakesNoNoticeOfItsEnd(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        try:
            await super().send(notification, ctx)
        except asyncio.CancelledError:
            # it waits for what never comes
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(20)


class TakesASilentReceiverForGood(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await super().send(notification, ctx)


class TakesNoNoticeOf410(Tell):
    """Tell a channel."""

    async def post(self, notification: Notification, ctx: NotifierContext, id: str, text: str) -> None:
        answer = await post(ctx, self.url, jsontext.dump_bytes({"text": text}), {"X-Id": id})
        if not answer.is_good:
            raise ValueError(str(answer))


class ShowsTheAddress(Tell):
    """Tell a channel."""

    async def post(self, notification: Notification, ctx: NotifierContext, id: str, text: str) -> None:
        answer = await post(ctx, self.url, jsontext.dump_bytes({"text": text}), {"X-Id": id})
        if not answer.is_good:
            raise ValueError(f"{self.url} answered {answer.status}")


class LogsTheAddress(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        structlog.get_logger().info("telling", url=self.url)
        await super().send(notification, ctx)


class BlocksTheLoop(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        time.sleep(0.8)
        await super().send(notification, ctx)


class LeavesASessionOpen(Tell):
    """Tell a channel."""

    async def post(self, notification: Notification, ctx: NotifierContext, id: str, text: str) -> None:
        session = aiohttp.ClientSession()
        LEFT.append(session.close)
        async with session.post(self.url, json={"text": text}, headers={"X-Id": id}) as answer:
            answer.raise_for_status()


class LeavesAThread(Tell):
    """Tell a channel."""

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        await super().send(notification, ctx)
        over = threading.Event()
        LEFT.append(over.set)
        threading.Thread(target=over.wait, args=(60,)).start()


class HasNoExample(Tell):
    """Tell a channel."""

    examples: ClassVar[tuple[str, ...]] = ()


class HasABadExample(Tell):
    """Tell a channel."""

    examples: ClassVar[tuple[str, ...]] = ("type: planted.tell\nuri: https://example.test",)


class HasAnUnexplainedField(Tell):
    """Tell a channel."""

    mood: str = "fine"


PAGE, EXAMPLES = "test_its_page_has_no_hole", "test_its_examples_can_be_used"
ONCE = "test_what_is_told_arrives_once"
STRANGE = "test_whatever_it_says_arrives_as_it_is"
AGAIN = "test_what_is_refused_for_now_is_sent_again"
LOST = "test_a_lost_answer_repeats_it_under_the_same_id"
OWN_ID = "test_each_is_told_under_an_id_of_its_own"
STALL = "test_a_receiver_that_never_answers_is_given_up_in_time"
GONE = "test_a_receiver_that_wants_no_more_is_told_no_more"
ONE = "test_several_go_as_one_that_names_each"
MANY = "test_many_are_told_side_by_side"
PRIVATE = "test_it_shows_nothing_private"
LOOP = "test_it_does_not_keep_the_hub_from_everything_else"
PLANTED: list[tuple[type[Notifier], str]] = [
    (SwallowsErrors, AGAIN),
    (TakesEveryAnswerForGood, AGAIN),
    (GivesEachAttemptItsOwnId, LOST),
    (SwallowsErrors, LOST),
    (GivesAllTheSameId, OWN_ID),
    (TriesAgainByItself, ONCE),
    (TriesAgainByItself, MANY),
    (ForgetsTheSubject, ONCE),
    (ForgetsTheMessage, ONCE),
    (TellsTheFirstOfSeveral, ONE),
    (ReadsBraces, STRANGE),
    (BreaksOnLetters, STRANGE),
    (RefusesLongOnes, STRANGE),
    (TakesNoNoticeOfItsEnd, STALL),
    (TakesASilentReceiverForGood, STALL),
    (TakesNoNoticeOf410, GONE),
    (ShowsTheAddress, PRIVATE),
    (LogsTheAddress, PRIVATE),
    (BlocksTheLoop, LOOP),
    (LeavesASessionOpen, ONCE),
    (LeavesAThread, ONCE),
    (HasNoExample, PAGE),
    (HasAnUnexplainedField, PAGE),
    (HasABadExample, EXAMPLES),
]


@pytest.mark.parametrize(("planted", "test"), PLANTED, ids=lambda one: getattr(one, "__name__", None))
async def test_a_planted_bug_is_noticed(
    planted: type[Notifier], test: str, hub_kit: Kit, http_receiver: HttpReceiver, tmp_path: Path
) -> None:
    suite = NotifierContract()
    suite.notifier_type = planted
    arguments: dict[str, Any] = {"hub_kit": hub_kit, "recipient": recipient_of(http_receiver)}
    if test == PAGE:
        arguments = {}
    elif test == EXAMPLES:
        arguments = {"hub_kit": hub_kit, "tmp_path": tmp_path}
    with pytest.raises((AssertionError, InvalidSettings, ValueError)):
        await noticing(getattr(suite, test), arguments)


async def noticing(test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    found = test(**arguments)
    if found is not None:
        await found
