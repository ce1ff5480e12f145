"""End what a killed hub left behind, before the next one starts anything."""

from __future__ import annotations

import asyncio
import os
import signal

from plugins_core.script import marks, processes
from plugins_core.script.tree import GRACE

_LOOK_EVERY = 0.02
_GIVE_UP = 3.5


async def end_leftovers(instance: str) -> int:
    """End every process that carries this installation's mark or name, and all below it; answers how many."""
    loop = asyncio.get_running_loop()
    seen: set[int] = set()
    asked: set[int] = set()
    kill_at = loop.time() + GRACE
    while members := _members(instance, seen):
        seen |= members
        if loop.time() >= kill_at + _GIVE_UP:
            break
        if loop.time() >= kill_at:
            processes.send(members, signal.SIGSTOP)
            processes.send(members, signal.SIGKILL)
        else:
            processes.send(members - asked, signal.SIGTERM)
            processes.send(members - asked, signal.SIGCONT)
            asked |= members
        await asyncio.sleep(_LOOK_EVERY)
    return len(seen)


def _members(instance: str, seen: set[int]) -> set[int]:
    table = processes.process_table()
    roots = {pid for pid in table if pid != os.getpid() and _is_of(pid, instance)}
    # a member seen before may have wiped its environment since; its id is still its own
    roots |= seen & table.keys()
    return {
        pid for pid in processes.descendants(roots, table) if pid in table and not table[pid].is_zombie
    } - {os.getpid()}


def _is_of(pid: int, instance: str) -> bool:
    if marks.is_of(marks.mark_of(pid), instance):
        return True
    token = processes.token_of(pid)
    return token is not None and token.startswith(f"{instance}:")
