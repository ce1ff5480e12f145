"""What the service is told, and what becomes of its answers."""

from contextlib import asynccontextmanager

import pytest
from asynchub_example.notifier import Tell

from hub.testing import HttpRecipient, NotifierContract, harness

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


class TestTell(NotifierContract):
    notifier_type = Tell

    @pytest.fixture
    def recipient(self, http_receiver, plugin_settings, secrets):
        plugin_settings["example"] = {"apiUrl": http_receiver.url}
        secrets["TOKEN"] = "a-token-of-a-test"
        return HttpRecipient(
            http_receiver,
            {"channel": "alarms", "token": "{{ secret('TOKEN') }}"},
            id_of=lambda request: request.headers["idempotency-key"],
            gone=(410, "the channel is gone"),
            private=["a-token-of-a-test"],
        )


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
