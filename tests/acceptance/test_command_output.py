"""What the command does when its output has no reader or no room."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess
from tests.support.ports import free_port

_COMMANDS = [["--help"], ["run", "--help"], ["plugins", "list"], ["--version"]]


def _run(arguments: list[str], stdout: int, cwd: Path, unbuffered: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hub", *arguments],
        cwd=cwd,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
def test_a_reader_that_has_gone_is_no_failure(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = _run(arguments, writing, tmp_path, unbuffered)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", _COMMANDS, ids=" ".join)
def test_output_that_cannot_be_written_is_said(tmp_path: Path, arguments: list[str], unbuffered: str) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        done = _run(arguments, full, tmp_path, unbuffered)
    finally:
        os.close(full)
    wanted = "error: the output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_a_hub_serves_on_when_nobody_reads_what_it_says(tmp_path: Path) -> None:
    class Unread(HubProcess):
        def _ready_line(self, timeout: float) -> str:
            assert self.process is not None
            assert self.process.stdout is not None
            self.process.stdout.close()
            return ""

    with Unread(tmp_path, port=free_port()) as hub:
        while "ready" not in _health(hub):
            assert hub.process is not None
            assert hub.process.poll() is None
        assert hub.stop() == 0


def _health(hub: HubProcess) -> str:
    try:
        return str(hub.call("GET", "/health/ready").json["status"])
    except OSError:
        return ""
