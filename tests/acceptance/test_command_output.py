"""What the command does when its output has no reader or no room."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from contextlib import suppress
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


def _on_terminal(arguments: list[str], cwd: Path, columns: int) -> list[str]:
    """What a terminal of so many columns shows of a command."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    command = [sys.executable, "-m", "hub", *arguments]
    with subprocess.Popen(command, cwd=cwd, stdin=its, stdout=its, stderr=its, env=env):
        os.close(its)
        said = b""
        # reading fails once nobody has the other end open
        with suppress(OSError):
            while found := os.read(ours, 65536):
                said += found
    os.close(ours)
    return said.decode().splitlines()


def test_a_table_fits_the_terminal_and_nothing_of_it_is_cut(tmp_path: Path) -> None:
    lines = _on_terminal(["plugins", "list"], tmp_path, 100)
    assert max(map(len, lines)) <= 100
    assert lines[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "STATE", "TYPES", "WHAT", "TO", "DO"]
    piped = subprocess.run(
        [sys.executable, "-m", "hub", "plugins", "list"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # the same words, if in other lines; a row is a line where no terminal says how wide one is
    assert sorted(" ".join(lines).split()) == sorted(piped.split())
    assert len(piped.splitlines()) < len(lines)


def test_a_table_with_words_wider_than_the_terminal_is_as_wide_as_they_are(tmp_path: Path) -> None:
    lines = _on_terminal(["plugins", "list"], tmp_path, 30)
    assert any("flow.sequential," in line for line in lines)
