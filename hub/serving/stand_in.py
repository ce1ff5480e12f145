"""What is left of a process that handed its hub over: it stands in for the hub towards whoever started it.

A process manager knows one process id, and takes its end for the hub's. So the process that was started goes on
under that id, as a small program that passes signals on to the hub of now and ends as that one ends. Where
a hub hands over again, the next one becomes this process's child too (Linux: it adopts orphans).

The program is this very file, run by an interpreter with nothing but the standard library: the hub's own files
may be others, or gone, by then.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys

_PR_SET_CHILD_SUBREAPER = 36
_PASSED_ON = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)


class StandIn:
    """Follows the hub from one process to the next."""

    def __init__(self, hub: int, news: int) -> None:
        self._hub = hub
        self._news = news
        """A pipe that says, line by line, which process is the hub now."""
        os.set_blocking(news, False)

    def run(self) -> int:
        """Until the hub has ended; answers how, as ``waitpid`` says it."""
        for number in _PASSED_ON:
            signal.signal(number, self._pass_on)
        # those that came while nobody could pass them on
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _PASSED_ON)
        while True:
            try:
                ended, status = os.waitpid(-1, 0)
            except ChildProcessError:
                return 1 << 8  # it is nobody's child that we know: it got away, or never was
            if ended == self._hub and not self._has_moved():
                return status

    def _pass_on(self, number: int, _: object) -> None:
        self._has_moved()
        try:
            os.kill(self._hub, number)
        except ProcessLookupError:
            return  # it has just ended, and how is about to be known

    def _has_moved(self) -> bool:
        """Whether the hub is another process than the one we knew."""
        try:
            said = os.read(self._news, 4096).split()
        except BlockingIOError:
            return False
        if said:
            self._hub = int(said[-1])
        return bool(said)


def main() -> None:
    """The program: ``PID NEWS``."""
    follow(int(sys.argv[1]), int(sys.argv[2]))


def follow(hub: int, news: int) -> None:
    """Stand in until the hub has ended, and end as it did."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    status = StandIn(hub, news).run()
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        os._exit(128 + number)  # the first process of a container is not ended by a signal of its own
    os._exit(os.waitstatus_to_exitcode(status))


def become(hub: int, news: int) -> None:
    """Turn this process into the stand-in for the hub that another one is now; never returns."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _PASSED_ON)
    os.set_inheritable(news, True)
    # -I and -S: nothing of its environment and no package; the text, since the file may be gone
    with contextlib.suppress(OSError):
        os.execv(sys.executable, [sys.executable, "-I", "-S", "-c", _TEXT, str(hub), str(news)])  # noqa: S606
    # the interpreter has gone: larger than it needs to be, and as good
    follow(hub, news)


if __name__ == "__main__":
    main()
else:
    with open(__file__, encoding="utf-8") as _file:
        _TEXT = _file.read()
