"""What the system says about processes: who is whose child, who carries which token (Linux's ``/proc``).

On systems without ``/proc`` only the process group is known; see ``docs/how-to/scripts.md``.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

TOKEN = "HUB_TASK_TOKEN"  # noqa: S105 - the name of a variable, not a secret
HAS_PROC = Path("/proc/self/stat").exists()
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Process:
    """One line of the process table."""

    pid: int
    parent: int
    group: int
    session: int
    is_zombie: bool


def adopt_orphans() -> None:
    """Have this process become the parent of its descendants' orphans (Linux only), so that none gets away."""
    if sys.platform != "linux":
        return
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def process_table() -> dict[int, Process]:
    """Every process by its id."""
    table: dict[int, Process] = {}
    if not HAS_PROC:
        return table
    for name in os.listdir("/proc"):
        if name.isdigit():
            found = process(int(name))
            if found is not None:
                table[found.pid] = found
    return table


def process(pid: int) -> Process | None:
    """One process, or None when it is gone."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            line = file.read()
    except OSError:
        return None
    # the name in brackets may hold anything, so the fields are counted from the last bracket
    state, parent, group, session = line[line.rindex(b")") + 2 :].split()[:4]
    return Process(pid, int(parent), int(group), int(session), state in (b"Z", b"X"))


def children() -> list[int] | None:
    """This process's own children, or None where the system does not say."""
    pid = os.getpid()
    try:
        with open(f"/proc/{pid}/task/{pid}/children", "rb") as file:
            return [int(child) for child in file.read().split()]
    except OSError:
        return None


def descendants(roots: Iterable[int], table: dict[int, Process]) -> set[int]:
    """The roots and everything below them."""
    below: dict[int, list[int]] = {}
    for one in table.values():
        below.setdefault(one.parent, []).append(one.pid)
    found: set[int] = set()
    todo = list(roots)
    while todo:
        pid = todo.pop()
        if pid not in found:
            found.add(pid)
            todo += below.get(pid, ())
    return found


def token_of(pid: int) -> str | None:
    """The token a process was started with, or None."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = file.read()
    except OSError:
        return None
    start = f"{TOKEN}=".encode()
    for variable in variables.split(b"\0"):
        if variable.startswith(start):
            return variable[len(start) :].decode("utf-8", "replace")
    return None


def folder_of(pid: int) -> str | None:
    """A process's working folder, or None."""
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def send(pids: Iterable[int], number: signal.Signals) -> None:
    """Send a signal to processes; those that are gone are passed over."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def reap(pid: int) -> None:
    """Take a dead child's exit, so that it leaves the process table."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
