"""What the service is told, and what becomes of its answers."""

from contextlib import asynccontextmanager

from hub.testing import harness

FLOW = """
id: broken
namespace: demo
notify: {on: [FAILED], to: oncall}
tasks:
  - {id: stop, type: execution.fail, message: nothing left}
"""


@asynccontextmanager
async def hub_that_tells(folder, service):
    oncall = {"type": "example.tell", "channel": "alarms", "token": "{{ secret('TOKEN') }}"}
    async with harness(
        folder,
        plugins={"example": {"apiUrl": service.url}},
        settings={"notifiers": {"oncall": oncall}},
        environ={"HUB_SECRET_TOKEN": "a-token-of-a-test"},
    ) as hub:
        await hub.put(FLOW)
        yield hub


async def test_a_failure_is_told_with_the_token_and_the_notices_id(tmp_path, http_receiver):
    async with hub_that_tells(tmp_path, http_receiver) as hub:
        ended = await hub.run("demo/broken")
        [notice] = await hub.notices()
    assert (ended.state, notice.state) == ("FAILED", "delivered")
    [request] = http_receiver.requests
    assert (request.method, request.path) == ("POST", "/channels/alarms/messages")
    assert request.json["text"].startswith("[FAILED] demo/broken\n")
    assert request.headers["authorization"] == "Bearer a-token-of-a-test"
    assert request.headers["idempotency-key"] == notice.delivery_id


async def test_what_a_busy_service_was_not_told_stays_owed(tmp_path, http_receiver):
    http_receiver.answer(503, "busy")
    async with hub_that_tells(tmp_path, http_receiver) as hub:
        await hub.run("demo/broken")
        [notice] = await hub.notices()
    assert (notice.state, notice.attempts) == ("owed", 1)
    assert "answered 503: busy" in notice.error


async def test_a_service_that_wants_no_more_is_told_nothing_more(tmp_path, http_receiver):
    http_receiver.answer(410)
    async with hub_that_tells(tmp_path, http_receiver) as hub:
        await hub.run("demo/broken")
        await hub.notices()  # once it has heard the answer
        await hub.run("demo/broken")
        notices = await hub.notices()
    assert [notice.state for notice in notices] == ["dead", "dead"]
    assert len(http_receiver.requests) == 1
