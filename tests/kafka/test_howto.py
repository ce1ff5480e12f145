"""docs/how-to/kafka.md, typed line by line against a real broker; and ``make kafka``, as it says."""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hub.config.plugins import with_plugin_settings
from hub.config.settings import load_settings
from hub.registry import load_plugins
from tests.services.kafka import KafkaBroker
from tests.services.kafka_by_hand import lines as lines_by_hand
from tests.support.following import ends_of
from tests.support.hub_process import HubProcess

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "how-to" / "kafka.md").read_text()


class Typist:
    """Somebody in a folder who types the lines of a page; the broker it names is the tests' own."""

    def __init__(self, folder: Path, broker: KafkaBroker) -> None:
        self.folder = folder
        self._broker = broker
        broker.write_tools(folder / "bin")

    def here(self, text: str) -> str:
        return text.replace("127.0.0.1:9092", self._broker.bootstrap)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(self.here(text))

    def type(self, line: str) -> str:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
        env["PATH"] = os.pathsep.join(
            [str(self.folder / "bin"), str(Path(sys.executable).parent), env["PATH"]]
        )
        done = subprocess.run(
            ["bash", "-ec", self.here(line)],
            cwd=self.folder,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr


@pytest.fixture
def typist(tmp_path: Path, broker: KafkaBroker) -> Typist:
    return Typist(tmp_path, broker)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.mark.timeout(240)
def test_the_page_typed_as_it_stands(typist: Typist) -> None:
    settings, orders, *_ = blocks("yaml")
    typist.write("hub.yaml", settings)
    typist.write("flows/orders.hub.yaml", orders)
    before, after = [block.splitlines() for block in blocks("sh")]
    for line in before:
        said = typist.type(line)
    assert "0 errors" in said
    put, *look = after
    with HubProcess(typist.folder) as hub, ends_of(hub, "shop") as ends:
        typist.type(put)
        assert ends.next()["state"] == "SUCCESS"
        log = typist.type(look[0])
        assert re.search(r"ada: 120 at \d/0", log)
        until = time.monotonic() + 20
        while "3 taken, 1 dead" not in " ".join((listed := typist.type(look[1])).split()):
            assert time.monotonic() < until, listed
        assert "its value is not JSON" in " ".join(typist.type(look[2]).split())
        assert "started" in typist.type(look[3])
        assert ends.next()["state"] == "SUCCESS"


def test_every_cluster_of_the_page_can_be_set(tmp_path: Path) -> None:
    found = [block for block in blocks("yaml") if block.startswith("plugins:")]
    assert len(found) == 2
    for block in found:
        (tmp_path / "hub.yaml").write_text(block)
        with_plugin_settings(load_plugins({}), load_settings({}, folder=tmp_path).settings)


def test_every_metric_is_in_the_table() -> None:
    source = (ROOT / "hub" / "api" / "system.py").read_text()
    made = set(re.findall(r'"(hub_trigger_\w+)"', source))
    told = {name.removesuffix("_total") for name in re.findall(r"\| `(hub_trigger_\w+)\{", PAGE)}
    assert told == made


@pytest.mark.timeout(240)
def test_make_kafka_prints_lines_that_start_the_first_blueprint(typist: Typist) -> None:
    """The lines are typed at the tests' own broker: the port by hand may be taken."""
    typist.write("in-its-place", "")
    tools = typist.folder / "bin"
    text = lines_by_hand(typist._broker, tools)
    typed = [line.strip() for line in text.splitlines() if line.startswith("  ")]
    settings, use, serve, put, read, listed = typed
    typist._broker.create("orders-by-hand", "orders-enriched", "orders-dead")
    for line in (settings, use):
        typist.type(line)
    assert serve.endswith("hub serve")
    flow = typist.folder / "flows" / "1-enrich.hub.yaml"
    flow.write_text(flow.read_text().replace("topic: orders\n", "topic: orders-by-hand\n"))
    with HubProcess(typist.folder) as hub, ends_of(hub, "demo.kafka") as ends:
        text = flow.read_text().replace("127.0.0.1:8484", f"127.0.0.1:{hub.port}")
        hub.call("PUT", "/api/v1/flows/demo.kafka/enrich", text.encode())
        flow.write_text(text)
        typist.type(put.replace("--topic orders", "--topic orders-by-hand"))
        assert {ends.next()["state"], ends.next()["state"]} == {"SUCCESS"}
        assert '"customer":{"id":"ada","country":"FR"}' in typist.type(read).replace(" ", "")
        assert "kafka.messages" in typist.type(listed)


@pytest.mark.timeout(240)
def test_a_broker_by_hand_starts_and_ends_with_its_caller(tmp_path: Path) -> None:
    """``make kafka`` in a process of its own, at a free port; ended by its own id it leaves nothing behind."""
    script = (
        "import tests.services.kafka_by_hand as by_hand, pathlib, sys;"
        "by_hand.CACHE = pathlib.Path(sys.argv[1]); by_hand._PORT = int(sys.argv[2]); by_hand.main()"
    )
    port = KafkaBroker(tmp_path / "unused").bootstrap.rpartition(":")[2]
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path), port], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        said = ""
        until = time.monotonic() + 100
        while "its data stays" not in said and time.monotonic() < until:
            if select.select([process.stdout], [], [], 1)[0]:
                said += process.stdout.readline()
        assert f"kafka ready at 127.0.0.1:{port}" in said
    finally:
        process.terminate()
        code = process.wait(60)
    assert code == 0
    mark = str(tmp_path / "by-hand")
    left = [one for one in Path("/proc").iterdir() if one.name.isdigit() and mark in _command(one)]
    assert not left
    shutil.rmtree(tmp_path / "by-hand")


def _command(process: Path) -> str:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""
