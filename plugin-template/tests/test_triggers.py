"""Every new message is one event, whatever goes down meanwhile."""

import pytest
from asynchub_example.triggers import Messages

from hub.testing import Source, TriggerContract


class Service(Source):
    """A service on this machine, which gives the messages after a number."""

    fields = {"channel": "questions", "every": "PT1M"}

    def __init__(self):
        self.messages = []

    async def happen(self, running, number):
        new = {"id": f"m{number}", "number": number, "author": "Ada", "text": f"question {number}"}
        self.messages.append(new)

    def answer(self, request):
        after = int(request.query["after"][0])
        return {"messages": [one for one in self.messages if one["number"] > after]}


@pytest.fixture
def service(http_receiver, plugin_settings):
    service = Service()
    http_receiver.answer_by(service.answer)
    plugin_settings["example"] = {"apiUrl": http_receiver.url}
    return service


class TestMessages(TriggerContract):
    trigger_type = Messages

    @pytest.fixture
    def source(self, service, virtual_clock):
        return service


async def test_a_message_is_told_with_its_author(trigger, service, virtual_clock):
    async with trigger("example.messages", channel="questions") as running:
        await service.happen(running, 7)
        event = await running.next()
        assert event.data == {"messageId": "m7", "author": "Ada", "text": "question 7"}
        assert running.state == {"after": 7}
