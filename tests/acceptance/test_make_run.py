"""``make run``, as the README says it: what it prints, how it ends, what to type when it cannot start."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess

ROOT = Path(__file__).parent.parent.parent


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "MAKE"))}


def test_ctrl_c_ends_it_as_well_as_it_went(tmp_path: Path) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(ROOT)
        os.execvpe("make", ["make", "run", "PORT=0", f"DATA={tmp_path / 'data'}"], _environment())
    shown = b""
    try:
        while b"Ctrl-C ends the hub." not in shown:
            shown += os.read(terminal, 65536)
        os.write(terminal, b"\x03")
        after = b""
        while True:
            try:
                after += os.read(terminal, 65536)
            except OSError:
                break  # the last process of the terminal has gone
        _, status = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"make" not in after
    assert re.search(rb"^demo/hello SUCCESS in \d+ ms\r$", shown, re.M)


@pytest.mark.parametrize("taken", ["port", "data"])
def test_what_is_taken_is_said_with_what_to_type_to_make(tmp_path: Path, taken: str) -> None:
    with HubProcess(tmp_path) as hub:
        arguments = [f"PORT={hub.port}", f"DATA={tmp_path / 'other'}"]
        if taken == "data":
            arguments = ["PORT=0", f"DATA={tmp_path}"]
        done = subprocess.run(
            ["make", "run", *arguments],
            cwd=ROOT,
            env=_environment(),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    wanted = "make run PORT=N" if taken == "port" else "make run DATA=FOLDER"
    assert wanted in done.stderr
    assert "--port" not in done.stderr
    assert "--data" not in done.stderr
