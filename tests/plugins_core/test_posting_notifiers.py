"""``webhook`` and ``slack``: what is sent, how it is signed, and what each answer means."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import structlog
from standardwebhooks import Webhook

from hub.clock import SystemClock
from hub.errors import InvalidSettings
from hub.plugin import NoticeState
from hub.testing import Harness, VirtualClock, harness
from tests.support.receiver import Receiver, receiver

_N = NoticeState
ONE = "whsec_" + base64.b64encode(b"a" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"b" * 32).decode()
TELL = (
    "id: f\nnamespace: t\ntasks:\n  - {id: a, type: notify, to: oncall, subject: 'a <b> & c', message: hello,"
    " level: WARN, attachments: ['hub:///ab/x/a.csv']}\n"
)
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@asynccontextmanager
async def hub_with(
    folder: Path, oncall: dict[str, Any], **more: Any
) -> AsyncIterator[tuple[Harness, VirtualClock]]:
    clock = more.pop("clock", None) or VirtualClock()
    environ = {"HUB_SECRET_ONE": ONE, "HUB_SECRET_BOT": "xoxb-secret-token"}
    async with harness(
        folder, settings={"notifiers": {"oncall": oncall}}, clock=clock, environ=environ, **more
    ) as hub:
        await hub.put(TELL)
        yield hub, clock


def webhook(found: Receiver, **more: Any) -> dict[str, Any]:
    return {"type": "webhook", "url": f"{found.url}/hook?key=hidden", "secret": "{{ secret('ONE') }}", **more}


async def test_a_webhook_is_what_the_standards_own_library_accepts(tmp_path: Path) -> None:
    async with receiver() as found:
        given = webhook(found, secret=["{{ secret('ONE') }}", OTHER], headers={"X-Team": "ops"})
        async with hub_with(tmp_path, given, clock=SystemClock()) as (hub, _):
            execution = await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.error) == (_N.DELIVERED, None)
    [request] = found.requests
    lower = {name.lower(): value for name, value in request.headers.items()}
    for secret in (ONE, OTHER):
        body = Webhook(secret).verify(request.body.decode(), lower)
        assert body["type"] == "hub.notice"
    assert lower["webhook-id"] == notice.id == body["data"]["id"]
    assert lower["x-team"] == "ops"
    data = body["data"]
    assert (data["subject"], data["message"], data["level"]) == ("a <b> & c", "hello", "WARN")
    assert (data["namespace"], data["flowId"], data["executionId"]) == ("t", "f", execution.id)
    assert data["attachments"] == [{"name": "a.csv", "uri": "hub:///ab/x/a.csv"}]
    with pytest.raises(Exception, match=r"(?i)signature"):
        Webhook("whsec_" + base64.b64encode(b"c" * 32).decode()).verify(request.body.decode(), lower)


async def test_each_attempt_has_the_same_id_and_its_own_time(tmp_path: Path) -> None:
    async with receiver() as found:
        found.answers = [(500, {}, "no"), (302, {"Location": f"{found.url}/other"}, "")]
        async with hub_with(tmp_path, webhook(found)) as (hub, clock):
            await hub.run("t/f")
            for delay in (6, 330):
                [notice] = await hub.notices()
                assert notice.state is _N.OWED
                clock.advance(timedelta(seconds=delay))
            [notice] = await hub.notices()
            assert (notice.state, notice.attempts) == (_N.DELIVERED, 2)
    # a redirect is a failure, and is not followed
    assert [one.path for one in found.requests] == ["/hook"] * 3
    assert len({one.headers["webhook-id"] for one in found.requests}) == 1
    assert len({one.headers["webhook-timestamp"] for one in found.requests}) == 3
    assert len({one.headers["webhook-signature"] for one in found.requests}) == 3
    assert len({one.body for one in found.requests}) == 1


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120), ("Thu, 01 Jan 2026 00:10:00 GMT", 600), ("999999999999", 86400), ("0", 0)],
)
async def test_a_webhook_is_sent_again_when_the_receiver_says(
    tmp_path: Path, value: str, seconds: int
) -> None:
    async with receiver() as found:
        found.answers = [(503 if seconds % 7 else 429, {"Retry-After": value}, "busy")]
        async with hub_with(tmp_path, webhook(found)) as (hub, clock):
            await hub.run("t/f")
            [notice] = await hub.notices()
            if seconds:
                assert notice.due_at == clock.now() + timedelta(seconds=seconds)
                assert len(found.requests) == 1
            else:
                assert notice.state is _N.DELIVERED


async def test_410_disables_a_webhook_until_somebody_retries(tmp_path: Path) -> None:
    async with receiver() as found:
        found.answers = [(410, {}, "unsubscribed")]
        async with hub_with(tmp_path, webhook(found)) as (hub, _):
            await hub.run("t/f")
            await hub.notices()
            await hub.run("t/f")
            assert {one.state for one in await hub.notices()} == {_N.DEAD}
            assert len(found.requests) == 1
            [state] = hub.node.notifications.states()
            assert state.disabled == "127.0.0.1 answered 410: unsubscribed"
            first = (await hub.notices())[-1]
            await hub.node.notifications.retry(first.id)
            await hub.notices()
            assert len(found.requests) == 2
            assert hub.node.notifications.states()[0].disabled is None


async def test_an_answer_that_is_lost_repeats_the_webhook_under_its_id(tmp_path: Path) -> None:
    async with receiver() as found:
        found.answers = [(0, {}, "")]
        async with hub_with(tmp_path, webhook(found)) as (hub, clock):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.state is _N.OWED
            clock.advance(timedelta(seconds=6))
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    assert [one.headers["webhook-id"] for one in found.requests] == [notice.id] * 2


async def test_neither_address_nor_secret_is_in_a_log_or_an_error(tmp_path: Path) -> None:
    async with receiver() as found:
        given = webhook(found, schedule=["5s"])
    # nobody listens there any more
    with structlog.testing.capture_logs() as logs:
        async with hub_with(tmp_path, given) as (hub, clock):
            await hub.run("t/f")
            await hub.notices()
            clock.advance(timedelta(minutes=1))
            [notice] = await hub.notices()
            assert notice.state is _N.DEAD
    assert "127.0.0.1: ClientConnectorError" in (notice.error or "")
    assert "hidden" not in f"{logs}{notice}"
    assert ONE not in f"{logs}{notice}"


async def test_a_large_answer_is_not_read_to_its_end(tmp_path: Path) -> None:
    async with receiver() as found:
        found.answers = [(500, {}, "x" * 20_000_000)]
        async with hub_with(tmp_path, webhook(found)) as (hub, _):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert len(notice.error or "") < 300


# -- Slack


async def test_slack_gets_a_text_that_mentions_nobody(tmp_path: Path) -> None:
    async with receiver() as found:
        oncall = {"type": "slack", "webhookUrl": f"{found.url}/services/T/B/x"}
        async with hub_with(tmp_path, oncall) as (hub, _):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED
    [request] = found.requests
    assert json.loads(request.body) == {"text": "*a &lt;b&gt; &amp; c*\nhello\nFiles: a.csv"}


async def test_a_bot_writes_to_its_channel_with_the_id_in_the_metadata(tmp_path: Path) -> None:
    async with receiver() as found:
        found.good = {"ok": True}
        given = {"type": "slack", "token": "{{ secret('BOT') }}", "channel": "C1", "apiUrl": found.url}
        async with hub_with(tmp_path, given) as (hub, _):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert (notice.state, notice.error) == (_N.DELIVERED, None)
    [request] = found.requests
    body = json.loads(request.body)
    assert (request.path, body["channel"]) == ("/chat.postMessage", "C1")
    assert request.headers["Authorization"] == "Bearer xoxb-secret-token"
    assert body["metadata"]["event_payload"] == {"id": notice.id}


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        ((200, {}, {"ok": False, "error": "channel_not_found"}), _N.DEAD),
        ((200, {}, {"ok": False, "error": "internal_error"}), _N.OWED),
        ((200, {}, "not json"), _N.OWED),
        ((429, {"Retry-After": "30"}, {"ok": False, "error": "ratelimited"}), _N.OWED),
        ((500, {}, ""), _N.OWED),
    ],
)
async def test_what_slack_answers_a_bot(tmp_path: Path, answer: Any, state: NoticeState) -> None:
    async with receiver() as found:
        found.good = {"ok": True}
        found.answers = [answer]
        given = {"type": "slack", "token": "{{ secret('BOT') }}", "channel": "C1", "apiUrl": found.url}
        async with hub_with(tmp_path, given) as (hub, clock):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.state is state
            clock.advance(timedelta(minutes=1))
            if state is _N.DEAD:
                await hub.node.notifications.retry(notice.id)
            [notice] = await hub.notices()
            assert notice.state is _N.DELIVERED


@pytest.mark.parametrize(
    ("status", "state"), [(400, _N.DEAD), (403, _N.DEAD), (404, _N.DEAD), (410, _N.DEAD), (500, _N.OWED)]
)
async def test_what_slack_answers_a_webhook(tmp_path: Path, status: int, state: NoticeState) -> None:
    async with receiver() as found:
        found.answers = [(status, {}, "no_service")]
        async with hub_with(tmp_path, {"type": "slack", "webhookUrl": found.url}) as (hub, _):
            await hub.run("t/f")
            [notice] = await hub.notices()
            assert notice.state is state
            assert "no_service" in (notice.error or "")
            assert (hub.node.notifications.states()[0].disabled is not None) == (status == 410)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"type": "slack"}, "give either webhookUrl, or token and channel"),
        ({"type": "slack", "token": "x"}, "a bot needs a channel"),
        ({"type": "slack", "webhookUrl": "ftp://x/secret-path"}, "begins with http:// or https://"),
        ({"type": "webhook", "url": "example.test"}, "begins with http:// or https://"),
        ({"type": "webhook", "url": "http://x", "secret": ""}, "an empty secret signs nothing"),
        ({"type": "webhook", "url": "http://x", "headers": {"Webhook-Id": "1"}}, "is the hub's to set"),
        ({"type": "webhook", "url": "http://x", "headers": {"a": "b\r\nc: d"}}, "cannot be a header"),
    ],
)
async def test_a_mistake_stops_the_start_and_shows_no_address(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidSettings, match=message) as found:
        async with harness(tmp_path, settings={"notifiers": {"oncall": given}}):
            pass
    assert "secret-path" not in str(found.value)


async def test_a_receiver_that_never_takes_it_is_tried_by_the_schedule_of_the_standard(
    tmp_path: Path,
) -> None:
    """Immediately, then 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h and 24 h after the one before."""
    second, minute, hour = 1, 60, 3600
    wanted = [5 * second, 5 * minute, 30 * minute, *(n * hour for n in (2, 5, 10, 14, 20, 24))]
    async with receiver() as found:
        found.answers = [(500, {}, "no")] * 10
        async with hub_with(tmp_path, webhook(found)) as (hub, clock):
            await hub.run("t/f")
            for number, delay in enumerate(wanted, 1):
                [notice] = await hub.notices()
                assert (notice.state, notice.attempts) == (_N.OWED, number)
                assert notice.due_at is not None
                waits = (notice.due_at - clock.now()).total_seconds()
                # up to a tenth longer, so that not all who failed together come back together
                assert delay <= waits <= delay * 1.1
                clock.move_to(notice.due_at)
            [notice] = await hub.notices()
            assert (notice.state, len(found.requests)) == (_N.DEAD, 10)
            assert notice.error == "given up after 10 attempts: 127.0.0.1 answered 500: no"
