"""How-to pages, typed line by line in a project: what a page tells to type works as it stands."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.following import ends_of, until
from tests.support.hub_process import HubProcess, hub_command
from tests.support.ports import free_port

HOW_TO = Path(__file__).parent.parent.parent / "docs" / "how-to"


class Reader:
    """Somebody with a project, who types the lines of a page."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()

    def type(self, line: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
        done = subprocess.run(
            ["bash", "-ec", line.replace("127.0.0.1:8484", f"127.0.0.1:{self.port}")],
            cwd=self.folder, env=env, capture_output=True, text=True, timeout=100,
        )  # fmt: skip
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    assert hub_command("init", ".", cwd=tmp_path).returncode == 0
    (tmp_path / "flows" / "first.hub.yaml").unlink()
    return Reader(tmp_path)


def blocks_of(page: str) -> list[list[str]]:
    """The lines of each block to type."""
    return [block.splitlines() for block in re.findall(r"```sh\n(.*?)```", (HOW_TO / page).read_text(), re.S)]


def test_the_github_page(reader: Reader) -> None:
    before, look, tries = blocks_of("github-webhook.md")
    for line in before:
        reader.type(line)
    with HubProcess(reader.folder, port=reader.port):
        assert f"http://127.0.0.1:{reader.port}/api/v1/webhooks/shop/on-push/push" in reader.type(*look)
        pushed, elsewhere, listed = [reader.type(line) for line in tries]
    assert re.search(r"answered 202 .*\nevent \S+ started \S+\n", pushed)
    assert "started nothing" in elsewhere
    assert "refs/heads/topic" in elsewhere
    assert listed.count("hub.webhook.received") == 2


def test_the_stripe_page(reader: Reader) -> None:
    before, look, tries = blocks_of("stripe-webhook.md")
    for line in before:
        reader.type(line)
    with HubProcess(reader.folder, port=reader.port):
        assert "/api/v1/webhooks/demo.stripe/payment/payment" in reader.type(*look)
        paid, receipt, other, listed = [reader.type(line) for line in tries]
    assert "answered 200" in paid
    assert receipt == "10.99 EUR received\n"
    assert "payment_intent.created" in other
    assert listed.count("hub.webhook.received") == 2


def test_the_first_hour(reader: Reader) -> None:
    """Its own project, a hub of it, and the lines for the second terminal."""
    start, second, use = blocks_of("first-hour.md")[:3]
    install, init, serve = start
    assert (install, serve) == ("pip install asynchub", "hub serve")
    reader.folder = reader.folder / "new"
    reader.folder.mkdir()
    reader.type(init)
    reader.folder = reader.folder / "demo"
    with HubProcess(reader.folder, port=reader.port) as hub:
        id = hub.call("POST", "/api/v1/flows/demo/first/executions", {}).json["id"]
        hub.ended(id)
        said = {line.partition("#")[0].strip(): reader.type(line) for line in second}
        reader.type(*use)
    assert id in said["hub executions list"]
    assert "Hello, " in said["hub executions logs last"]
    assert "curl -X POST" in said["hub triggers list"]
    assert "Hello, Ada!" in said["hub run demo/first -i name=Ada"]
    assert (reader.folder / "flows" / "on-push.hub.yaml").exists()


def flows_of(page: str) -> list[str]:
    """The flows that a page shows."""
    return [
        block
        for block in re.findall(r"```yaml\n(.*?)```", (HOW_TO / page).read_text(), re.S)
        if block.startswith("id: ")
    ]


def test_the_pages_of_events_webhooks_files_and_scripts(reader: Reader) -> None:
    """Their flows side by side in one hub, and the lines that need no id of the reader's own."""
    events = flows_of("events.md")[0]
    [answering] = [flow for flow in flows_of("webhooks.md") if flow.startswith("id: greet\n")]
    files, languages = flows_of("files.md")[0], flows_of("scripts.md")[0]
    for name, flow in {
        "events": events,
        "answering": answering,
        "files": files,
        "languages": languages,
    }.items():
        (reader.folder / "flows" / f"{name}.hub.yaml").write_text(flow)
    emit = next(line for line in blocks_of("events.md")[0] if "events emit" in line)
    curl = "\n".join(blocks_of("events.md")[1])
    with HubProcess(reader.folder, port=reader.port) as hub, ends_of(hub, "shop") as ends:
        assert "started" in reader.type(emit)
        assert "executionIds" in reader.type(curl)
        for _ in range(2):
            ended = ends.next()
            assert (ended["flow"], ended["state"]) == ("big-orders", "SUCCESS")
        greeted = hub.call("POST", "/api/v1/webhooks/shop/greet/greet", {"name": "Ada"})
        assert (greeted.status, greeted.raw) == (200, b"Hello, Ada!")
        assert ends.next()["flow"] == "greet"
        until(reader.folder, (reader.folder / "inbox").is_dir)
        (reader.folder / "orders.csv").write_text("article\nbolts\n")
        (reader.folder / "orders.csv").rename(reader.folder / "inbox" / "orders.csv")
        assert ends.next()["state"] == "SUCCESS"
        assert "n is 6" in reader.type("hub run shop/languages")
