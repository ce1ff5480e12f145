"""A power cut: of the database files only what was flushed survives, and nothing acknowledged is lost.

A preload library below the project's own SQLite writes down every write and flush. After a kill -9 the files
are built anew from the flushed writes alone.
"""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess

_SOURCE = Path(__file__).with_name("powercut.c")
_START = str(Path(__file__).with_name("start_hub.py"))
_COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
_FLOW = """id: cut
namespace: faults
triggers: [{id: hook, type: webhook, key: k}]
tasks: [{id: a, type: return, value: "{{ trigger.body.n }}"}]
"""

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or _COMPILER is None,
    reason="the power cut needs Linux and a C compiler for its preload library",
)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    assert _COMPILER is not None
    path = tmp_path_factory.mktemp("powercut") / "powercut.so"
    subprocess.run(
        [_COMPILER, "-shared", "-fPIC", "-O1", "-w", "-o", str(path), str(_SOURCE), "-ldl", "-lpthread"],
        check=True,
    )
    return path


def survivors(log: Path) -> dict[str, bytes]:
    """Each file as its last flush left it."""
    live: dict[str, bytearray] = {}
    flushed: dict[str, bytes] = {}
    raw = log.read_bytes()
    at = 0
    while at + 5 <= len(raw):
        kind, length = chr(raw[at]), struct.unpack_from("<I", raw, at + 1)[0]
        path = raw[at + 5 : at + 5 + length].decode()
        at += 5 + length
        first, second = struct.unpack_from("<qq", raw, at)
        at += 16
        content = live.setdefault(path, bytearray())
        if kind == "W":
            if len(content) < first:
                content.extend(bytes(first - len(content)))
            content[first : first + second] = raw[at : at + second]
            at += second
        elif kind == "T":
            del content[first:]
            content.extend(bytes(first - len(content)))
        elif kind == "F":
            flushed[path] = bytes(content)
        else:
            live.pop(path, None)
            flushed.pop(path, None)
    return flushed


def lost_after_power_cut(folder: Path, library: Path, bug: str) -> tuple[int, int]:
    """How many deliveries were acknowledged, and how many of them are not there after a power cut."""
    before, after = folder / "before", folder / "after"
    flows = folder / "flows"
    for path in (before, after, flows):
        path.mkdir()
    (flows / "cut.hub.yaml").write_text(_FLOW)
    env = {
        "LD_PRELOAD": str(library),
        "POWERCUT_LOG": str(folder / "log"),
        "POWERCUT_PREFIX": str(before / "hub.db"),
    }
    acknowledged: list[str] = []
    hub = HubProcess(before, flows=flows, start=(sys.executable, _START, bug), env=env)
    hub.start()

    def deliver(number: int) -> None:
        answer = hub.call("POST", "/api/v1/webhooks/faults/cut/k", {"n": number})
        assert answer.status == 202
        acknowledged.extend(answer.json["executionIds"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(deliver, range(300)))
    hub.kill()
    for file, content in survivors(folder / "log").items():
        (after / Path(file).name).write_bytes(content)
    with HubProcess(after, flows=flows) as restarted:
        there = {one["id"] for one in restarted.all_of("/api/v1/executions")}
    return len(acknowledged), len(set(acknowledged) - there)


def test_a_power_cut_loses_nothing_that_was_acknowledged(tmp_path: Path, library: Path) -> None:
    acknowledged, lost = lost_after_power_cut(tmp_path, library, "none")
    assert (acknowledged, lost) == (300, 0)


def test_without_flushes_the_same_cut_finds_losses(tmp_path: Path, library: Path) -> None:
    _, lost = lost_after_power_cut(tmp_path, library, "no-flush")
    assert lost > 0
