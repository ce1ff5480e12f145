"""What services are told, and what becomes of their answers; over Apprise's own JSON service."""

import base64

import pytest
from asynchub_apprise.notifier import Apprise

from hub.testing import HttpRecipient, NotifierContract, VirtualClock, harness

FLOW = """
id: broken
namespace: demo
notify: {on: [FAILED], to: oncall}
tasks:
  - {id: stop, type: execution.fail, message: nothing left}
"""


def address(receiver, path="hook"):
    return receiver.url.replace("http://", "json://") + f"/{path}/hidden"


class TestApprise(NotifierContract):
    notifier_type = Apprise

    @pytest.fixture
    def recipient(self, http_receiver, secrets):
        secrets["URL"] = address(http_receiver)
        return HttpRecipient(http_receiver, {"urls": "{{ secret('URL') }}"}, private=["/hook/hidden"])


def hub_with(folder, urls, **more):
    oncall = {"type": "apprise", "urls": urls}
    return harness(folder, settings={"notifiers": {"oncall": oncall}}, **more)


async def test_a_failure_is_told_as_one(tmp_path, http_receiver):
    async with hub_with(tmp_path, [address(http_receiver)]) as hub:
        await hub.put(FLOW)
        await hub.run("demo/broken")
        [notice] = await hub.notices()
    assert (notice.state, notice.error) == ("delivered", None)
    [request] = http_receiver.requests
    assert (request.json["title"], request.json["type"]) == ("[FAILED] demo/broken", "failure")
    assert request.json["message"].startswith("Flow demo/broken ended FAILED.")


async def test_those_that_were_told_are_not_told_again(tmp_path, http_receiver):
    clock = VirtualClock()
    urls = [address(http_receiver, "one"), address(http_receiver, "two")]
    async with hub_with(tmp_path, urls, clock=clock) as hub:
        await hub.put(FLOW)
        http_receiver.answer_next(503)  # whoever comes first
        await hub.run("demo/broken")
        [notice] = await hub.notices()
        assert notice.state == "owed"
        assert "JSON was not told" in notice.error
        clock.move_to(notice.due_at)
        [notice] = await hub.notices()
    assert notice.state == "delivered"
    paths = [request.path.split("/")[1] for request in http_receiver.requests]
    assert len(paths) == 3
    assert paths[2] == paths[0] != paths[1]


@pytest.mark.parametrize("url", ["nonsense", "nosuchservice://x", "tgram://"])
async def test_an_address_that_is_none_is_given_up_at_once(tmp_path, url):
    async with hub_with(tmp_path, [url]) as hub:
        await hub.put(FLOW)
        await hub.run("demo/broken")
        [notice] = await hub.notices()
    assert notice.state == "dead"
    assert notice.error.startswith("address 1: Apprise knows no service of this kind")


async def test_files_go_along(tmp_path, http_receiver):
    source = """
id: report
namespace: demo
tasks:
  - {id: made, type: script.shell, script: "printf '1;2' > a.csv", outputFiles: [a.csv]}
  - {id: told, type: notify, to: oncall, message: see the file, attachments: ["{{ outputs.made.files['a.csv'] }}"]}
"""
    async with hub_with(tmp_path, [address(http_receiver)]) as hub:
        await hub.put(source)
        ended = await hub.run("demo/report")
        assert ended.state == "SUCCESS", ended.error
        await hub.notices()
    [request] = http_receiver.requests
    [file] = request.json["attachments"]
    assert (file["filename"], base64.b64decode(file["base64"])) == ("a.csv", b"1;2")
