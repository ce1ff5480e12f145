"""Try the plugins of others in a child process first: what ends, hangs or eats up its process must not be this one.

Called by the loader, before it imports anything of them. Built-in plugins need no trial, and neither does a
module that this process has loaded before. The child loads one plugin after another and says how each went;
where it is gone or takes too long, the one it was at is to blame, and another child tries the rest.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import IO, Any, NoReturn

from hub.plugin import hookspecs

LONGEST = 10.0
"""Seconds that a plugin may take to be loaded."""
_GRACE = 2.0
"""Seconds more, in which a child that is late says where it is; a fresh interpreter begins in it, too."""
_MOST_MEMORY = 2 * 1024**3
"""Bytes that all plugins together may take while they are loaded."""
_SLOW = 1.0
_LARGE = 200 * 1024**2
_IN_A_PROCESS = "from hub.registry.trial import main; main()"
_FRAME = re.compile(r'File "(?P<file>[^"]+)", line (?P<line>\d+)')

Load = Callable[[EntryPoint], str | None]
"""Loads a plugin and answers what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Trial:
    """How a plugin did in the child."""

    error: str | None = None
    """Why it cannot be loaded, in the words of the loader; None where it can."""
    died: str | None = None
    """What became of the child, where it never came to an answer."""
    seconds: float = 0.0
    memory: int = 0
    """Bytes that the process grew by."""

    @property
    def advice(self) -> str | None:
        """What its author could do better; None where nothing has to be said."""
        costs = []
        if self.seconds >= _SLOW:
            costs.append(f"takes {self.seconds:.1f} s")
        if self.memory >= _LARGE:
            costs.append(f"takes {self.memory / 1024**2:.0f} MiB")
        if not costs:
            return None
        return f"loading it {' and '.join(costs)}: import what is heavy inside the functions that use it"


def needs_trial(point: EntryPoint) -> bool:
    """Whether nobody knows yet what importing a plugin does: a module that is here has been loaded before."""
    return point.module not in sys.modules


def tried(points: Sequence[EntryPoint], load: Load) -> list[Trial]:
    """Load each in a child process and forget it again; answers how each went, in their order."""
    found: list[Trial] = []
    while len(found) < len(points):
        found += _one_child(points[len(found) :], load, LONGEST)
    return found


def _one_child(points: Sequence[EntryPoint], load: Load, longest: float) -> list[Trial]:
    """What one child comes to know; the last is the one that it went down with, if it did."""
    with tempfile.TemporaryFile("w+") as last_words, contextlib.ExitStack() as stack:
        child: _Child
        if _may_fork():
            child = _Forked(points, load, last_words, longest)
        else:
            child = _Fresh(points, last_words, longest)
        stack.callback(child.end)
        found: list[Trial] = []
        for line in child.lines(longest + _GRACE):
            found.append(Trial(**line))
        if len(found) < len(points):
            found.append(
                Trial(died=_cause(child.end(), child.is_late, last_words, points[len(found)], longest))
            )
        return found


def _may_fork() -> bool:
    """Whether a copy of this process is as good as a fresh one: only one without other threads is."""
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    with contextlib.suppress(OSError):
        return len(os.listdir("/proc/self/task")) == 1
    return False


# the parent's side


class _Child:
    """A child process, as its parent sees it."""

    pid: int
    is_late = False

    def __init__(self, answers: int) -> None:
        self._answers = answers
        self._status: int | None = None

    def lines(self, patience: float) -> Iterator[Mapping[str, Any]]:
        """What it says of each plugin, until it is gone or says nothing for too long."""
        text = b""
        until = time.monotonic() + patience
        while True:
            readable, _, _ = select.select([self._answers], [], [], max(until - time.monotonic(), 0))
            if not readable:
                self.is_late = True
                return
            said = os.read(self._answers, 65536)
            if not said:
                return
            text += said
            *whole, text = text.split(b"\n")
            for line in whole:
                until = time.monotonic() + patience
                yield json.loads(line)

    def end(self) -> int:
        """End it, with whatever it has started; answers its wait status."""
        if self._status is None:
            os.close(self._answers)
            # one that is gone may have left others of its group
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)
            self._status = self._wait()
        return self._status

    def _wait(self) -> int:
        return os.waitpid(self.pid, 0)[1]


class _Forked(_Child):
    """A copy of this process: it has loaded already all that plugins import of the hub."""

    def __init__(self, points: Sequence[EntryPoint], load: Load, last_words: IO[str], longest: float) -> None:
        answers, said = os.pipe()
        super().__init__(answers)
        self.pid = os.fork()
        if self.pid == 0:
            try:
                self._found_group()
                os.close(answers)
                _silence()
                _try_all(points, load, said, last_words, longest)
            finally:
                # nothing of the parent's is cleaned up twice
                _REALLY_EXIT(0)
        os.close(said)
        self._found_group()

    def _found_group(self) -> None:
        """Put it into a group of its own; by both, since nobody knows who comes first."""
        with contextlib.suppress(OSError):
            os.setpgid(self.pid, self.pid)


class _Fresh(_Child):
    """Another interpreter."""

    def __init__(self, points: Sequence[EntryPoint], last_words: IO[str], longest: float) -> None:
        answers, said = os.pipe()
        super().__init__(answers)
        order = {
            "path": sys.path,
            "points": [[one.name, one.value, one.dist.name if one.dist else None] for one in points],
            "answers": said,
            "lastWords": last_words.fileno(),
            "longest": longest,
        }
        with tempfile.TemporaryFile() as orders:
            orders.write(json.dumps(order).encode())
            orders.seek(0)
            self._process = subprocess.Popen(  # noqa: S603 - this very interpreter, with this very text
                # -P: nothing in the current folder takes the place of the hub's own modules
                [sys.executable, "-P", "-c", _IN_A_PROCESS],
                stdin=orders,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=(said, last_words.fileno()),
                start_new_session=True,
            )
        os.close(said)
        self.pid = self._process.pid

    def _wait(self) -> int:
        code = self._process.wait()
        return -code if code < 0 else code << 8


def _cause(status: int, is_late: bool, last_words: IO[str], point: EntryPoint, longest: float) -> str:
    """Why a child went down with a plugin, and where in it."""
    last_words.seek(0)
    stack = last_words.read()
    where = _place_in(stack)
    if is_late or stack.startswith("Timeout"):
        what = f"it takes longer than {longest:g} s to be loaded"
    elif os.WIFSIGNALED(status):
        what = f"it ends its process by {signal.Signals(os.WTERMSIG(status)).name} when it is loaded"
    else:
        what = f"it ends its process with exit code {os.waitstatus_to_exitcode(status)} when it is loaded"
    return f"{what}, at {where}" if where else what


def _place_in(stack: str) -> str | None:
    """The innermost line of a stack that is neither Python's nor the hub's: ``asynchub_acme/plugin.py:3``."""
    own = str(Path(__file__).parent.parent)
    library = os.path.dirname(os.__file__)
    for frame in _FRAME.finditer(stack):
        file = frame["file"]
        is_python = file.startswith((library, "<frozen")) and "site-packages" not in file
        if not is_python and not file.startswith(own):
            path = Path(file)
            return f"{path.parent.name}/{path.name}:{frame['line']}"
    return None


# the child's side


_REALLY_EXIT = os._exit


def _silence() -> None:
    """What is printed is said when the plugin is loaded in earnest."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    sys.stdout = sys.stderr = open(os.devnull, "w")
    for number in (signal.SIGTERM, signal.SIGINT):
        with contextlib.suppress(ValueError):
            signal.signal(number, signal.SIG_DFL)


def _try_all(
    points: Iterable[EntryPoint], load: Load, said: int, last_words: IO[str], longest: float
) -> None:
    _bound_memory()
    faulthandler.enable(last_words)
    os._exit = _exit_noted_in(last_words)  # type: ignore[assignment]
    for point in points:
        faulthandler.dump_traceback_later(longest, exit=True, file=last_words)
        began, memory = time.monotonic(), _memory()
        error = load(point)
        trial = Trial(error, None, round(time.monotonic() - began, 3), max(_memory() - memory, 0))
        faulthandler.cancel_dump_traceback_later()
        os.write(said, json.dumps(asdict(trial)).encode() + b"\n")


def _exit_noted_in(last_words: IO[str]) -> Callable[[int], NoReturn]:
    """An ``os._exit`` that says who called it."""

    def leave(status: int) -> NoReturn:
        for frame in reversed(traceback.extract_stack()[:-1]):
            last_words.write(f'File "{frame.filename}", line {frame.lineno}\n')
        last_words.flush()
        _REALLY_EXIT(status)

    return leave


def _bound_memory() -> None:
    """Let an import that eats up the machine's memory fail by itself."""
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[5])
        limit = pages * resource.getpagesize() + _MOST_MEMORY
        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        resource.setrlimit(
            resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard)
        )


def _memory() -> int:
    """The most that this process has held so far, in bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Try what stdin names: what runs in a fresh interpreter."""
    from hub.registry.loader import what_is_wrong_with

    order = json.load(sys.stdin)
    sys.path[:] = order["path"]
    installed = {
        (one.name, one.value, one.dist.name if one.dist else None): one
        for one in entry_points(group=hookspecs.GROUP)
    }
    points = [
        installed.get((name, value, dist)) or EntryPoint(name, value, hookspecs.GROUP)
        for name, value, dist in order["points"]
    ]
    try:
        with open(order["lastWords"], "w", closefd=False) as last_words:
            _try_all(points, what_is_wrong_with, order["answers"], last_words, order["longest"])
    finally:
        _REALLY_EXIT(0)
