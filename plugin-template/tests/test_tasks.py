"""What is sent to the service, and what becomes of its answers."""

import pytest
from asynchub_example.tasks import Send

from hub.testing import TaskContract


@pytest.fixture
def service(http_receiver, plugin_settings, secrets):
    """A service on this machine, which answers as the real one does."""
    plugin_settings["example"] = {"apiUrl": http_receiver.url}
    secrets["EXAMPLE_TOKEN"] = "a-token-of-a-test"
    http_receiver.answer(201, {"id": "m1"})
    return http_receiver


class TestSend(TaskContract):
    task = Send

    @pytest.fixture
    def fields(self, service):
        return {"channel": "answers", "text": "hello"}

    @pytest.fixture
    def slow_fields(self, service):
        service.answer(201, after=60)
        return {"channel": "answers", "text": "hello"}


async def test_a_message_is_sent_with_the_token_and_a_key_of_its_own(run_task, service):
    result = await run_task("example.send", channel="answers", text="hello")
    assert (result.state, result.outputs) == ("SUCCESS", {"messageId": "m1"})
    request = await service.next()
    assert (request.method, request.path) == ("POST", "/channels/answers/messages")
    assert request.json == {"text": "hello"}
    assert request.headers["authorization"] == "Bearer a-token-of-a-test"
    assert request.headers["idempotency-key"]


async def test_a_busy_service_is_asked_again_when_it_says(run_task, service, virtual_clock):
    service.answer_next(429, headers={"Retry-After": "3600"})
    result = await run_task("example.send", channel="answers", text="hello")
    assert (result.state, result.attempts) == ("SUCCESS", 2)
    keys = {request.headers["idempotency-key"] for request in service.requests}
    assert len(keys) == 1


async def test_a_refusal_is_said_and_not_tried_again(run_task, service):
    service.answer(403, "no such channel")
    result = await run_task(
        "example.send", channel="x", text="hello", retry={"interval": "PT1S", "maxAttempts": 3}
    )
    assert (result.state, result.attempts) == ("FAILED", 1)
    assert "answered 403: no such channel" in result.error
