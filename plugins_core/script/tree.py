"""The process tree of one task run: everything a script started, however it tried to get away.

Members are the descendants of the script's own process, and orphans that this hub has adopted: known by
their mark; where there are no marks by the token in their environment, by the script's session or by its
working folder.
"""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from plugins_core.script import marks, processes
from plugins_core.script.processes import Process

GRACE = 3.0
"""Seconds between asking a tree to end and ending it."""
_LOOK_EVERY = 0.02
_GIVE_UP = 3.5


class ProcessTree:
    """The processes of one attempt."""

    _mains: set[int] = set()
    """The scripts' own processes that this hub is waiting for."""

    def __init__(self, main: int, *, mark: int | None, token: str, folder: Path) -> None:
        self._main = main
        self._mark = mark
        self._token = token
        self._folder = folder
        self._mains.add(main)
        self._known: set[int] = set()

    def main_ended(self) -> None:
        """The script's own process has ended and its exit was taken."""
        self._mains.discard(self._main)

    def may_have_leftovers(self) -> bool:
        """A quick look after the script's end: whether this hub has adopted something of this tree."""
        own = processes.children()
        if own is None:
            return True
        # the others are nearly always mains of other scripts, which costs no look at the process
        strangers = [processes.process(pid) for pid in own if pid not in self._mains]
        return any(one is not None and self._is_ours(one) for one in strangers)

    async def end(self, *, grace: float = GRACE) -> None:
        """Ask every member to end, then end it; returns when none is left."""
        loop = asyncio.get_running_loop()
        asked: set[int] = set()
        kill_at = loop.time() + grace
        while members := self._members():
            if loop.time() >= kill_at + _GIVE_UP:
                return  # stuck in the kernel: no signal reaches it, and waiting longer helps nobody
            if loop.time() >= kill_at:
                # stopped first, so that none can start another while the rest is being ended
                processes.send(members, signal.SIGSTOP)
                processes.send(members | self._members(), signal.SIGKILL)
            else:
                processes.send(members - asked, signal.SIGTERM)
                processes.send(members - asked, signal.SIGCONT)
                asked |= members
            await asyncio.sleep(_LOOK_EVERY)

    def _members(self) -> set[int]:
        """The live members; the dead are taken out of the process table."""
        if not processes.HAS_PROC:
            return self._group_only()
        table = processes.process_table()
        hub = os.getpid()
        # the script's own process is one only until its exit is taken: then its id may be anybody's
        roots = self._known | ({self._main} & self._mains)
        roots |= {
            pid
            for pid, one in table.items()
            if one.parent == hub and pid not in self._mains and self._is_ours(one)
        }
        found = processes.descendants(roots, table) - (self._mains - {self._main})
        self._known |= found & table.keys()
        for pid in found:
            one = table.get(pid)
            if one is not None and one.is_zombie and one.parent == hub and pid not in self._mains:
                processes.reap(pid)
        self._known = {pid for pid in self._known if pid in table and not table[pid].is_zombie}
        return {pid for pid in found if pid in table and not table[pid].is_zombie}

    def _is_ours(self, one: Process) -> bool:
        mark = marks.mark_of(one.pid) if self._mark is not None else None
        if mark is not None:
            return mark == self._mark
        if one.is_zombie:
            # the dead have no environment; without marks, what runs in another session than the hub's is taken
            return one.session == self._main or (self._mark is None and one.session != os.getsid(0))
        return (
            one.session == self._main
            or processes.token_of(one.pid) == self._token
            or processes.folder_of(one.pid) == os.path.realpath(self._folder)
        )

    def _group_only(self) -> set[int]:
        try:
            os.killpg(self._main, 0)
        except (ProcessLookupError, PermissionError):
            return set()
        return {-self._main}
