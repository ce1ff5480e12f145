"""A model of the storage contract: what executions, claims and queues have to do, in plain Python.

It has no tables, transactions or threads; where a storage answers otherwise, one of the two is wrong.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from hub.model.execution import ExecutionState, Queue

_S = ExecutionState
Answer = tuple[object, ...]
REFUSED: Answer = ("refused",)


@dataclass
class Modelled:
    """One execution."""

    id: str
    queue: Queue | None
    created_at: datetime
    state: ExecutionState
    claimed: bool = False
    fence: int = 0
    ready_at: datetime | None = None
    progress: int = 0
    suspect: bool = False
    suspect_starts: int = 0
    ended: bool = False
    restarts: int = 0
    runs: dict[str, str] = field(default_factory=dict)


class Model:
    """What a storage holds."""

    def __init__(self) -> None:
        self.executions: dict[str, Modelled] = {}
        self.deliveries: dict[str, str] = {}

    # arrivals

    def accept(
        self, id: str, event: str, key: str | None, queue: Queue | None, at: datetime, room: int
    ) -> Answer:
        if key is not None and key in self.deliveries:
            return ("known", self.deliveries[key])
        if key is not None:
            self.deliveries[key] = event
        state = self._born(queue)
        one = self.executions[id] = Modelled(id, queue, at, state, ended=state.is_terminal)
        if state is _S.CREATED:
            if room > 0:
                self._claim(one)
                return ("claimed", 1)
            one.ready_at = at
        return (state.value,)

    def _born(self, queue: Queue | None) -> ExecutionState:
        if queue is None:
            return _S.CREATED
        under_way, queued = self._counts(queue.key)
        if under_way < queue.limit and not queued:
            return _S.CREATED
        return queue.behavior.end or _S.QUEUED

    def _counts(self, key: str) -> tuple[int, int]:
        live = [
            one for one in self.executions.values() if one.queue and one.queue.key == key and not one.ended
        ]
        queued = sum(one.state is _S.QUEUED for one in live)
        return len(live) - queued, queued

    # steps

    def record(
        self,
        id: str,
        fence: int,
        at: datetime,
        *,
        state: ExecutionState | None,
        release: bool = False,
        wake_at: datetime | None = None,
        progress: bool = False,
        suspect_start: bool = False,
        run: tuple[str, str] | None = None,
    ) -> Answer:
        one = self.executions[id]
        if not one.claimed or one.fence != fence:
            return REFUSED
        if run is not None and one.runs.get(run[0]) != "SUCCESS":
            one.runs[run[0]] = run[1]
        ends = state is not None and state.is_terminal
        if state is not None and (ends or one.state is not _S.KILLING):
            one.state = state
        if progress:
            one.progress, one.suspect, one.suspect_starts = 2, False, 0
        elif suspect_start:
            one.progress = max(one.progress, 1)
        if ends:
            one.ended, one.claimed, one.ready_at = True, False, None
            one.runs = {path: "SUCCESS" if end == "SUCCESS" else "KILLED" for path, end in one.runs.items()}
            return ("ended", *self._admit(one.queue, claim=True))
        if release:
            one.claimed = False
            one.ready_at = datetime.min if one.state is _S.KILLING else wake_at or at
        return ("stored",)

    def _admit(self, queue: Queue | None, *, claim: bool) -> list[str]:
        claimed: list[str] = []
        while queue is not None:
            line = [
                one
                for one in self.executions.values()
                if one.queue and one.queue.key == queue.key and one.state is _S.QUEUED
            ]
            if not line or line[0].queue is None or self._counts(queue.key)[0] >= line[0].queue.limit:
                break
            one = line[0]
            one.state, one.progress = _S.CREATED, 0
            if claim:
                self._claim(one)
                claimed.append(one.id)
            else:
                one.ready_at = one.created_at
        return claimed

    # claims

    def claim(self, limit: int, at: datetime) -> list[tuple[str, int, bool, int]]:
        ready = [
            one for one in self.executions.values() if one.ready_at is not None and _at_most(one.ready_at, at)
        ]
        order = {id: number for number, id in enumerate(self.executions)}
        found: list[Modelled] = []
        for suspect in (False, True):
            those = [one for one in ready if one.suspect is suspect]
            those.sort(key=lambda one: (_moment(one.ready_at), order[one.id]))
            found += those[: limit - len(found)]
        for one in found:
            self._claim(one)
        return [(one.id, one.fence, one.suspect, one.suspect_starts) for one in found]

    @staticmethod
    def _claim(one: Modelled) -> None:
        one.claimed, one.ready_at, one.progress = True, None, 0
        one.fence += 1

    def take_over(self, at: datetime) -> int:
        held = [one for one in self.executions.values() if one.claimed]
        for one in held:
            one.claimed, one.ready_at = False, at
            one.suspect = one.progress != 2
            one.suspect_starts += one.progress == 1
        return len(held)

    # steering

    def kill(self, id: str) -> Answer:
        one = self.executions[id]
        if one.ended:
            return (one.state.value, False)
        if one.claimed:
            one.state = _S.KILLING
            return ("KILLING", True)
        one.state = _S.KILLED if one.fence > 0 else _S.CANCELLED
        one.ended, one.ready_at = True, None
        one.runs = {path: "SUCCESS" if end == "SUCCESS" else "KILLED" for path, end in one.runs.items()}
        self._admit(one.queue, claim=False)
        return (one.state.value, False)

    def restart(self, id: str, at: datetime) -> Answer:
        one = self.executions[id]
        if not one.ended or one.state is _S.SUCCESS:
            return REFUSED
        state = _S.CREATED
        if one.queue is not None:
            under_way, queued = self._counts(one.queue.key)
            if under_way >= one.queue.limit or queued:
                state = _S.QUEUED
        one.state, one.ended, one.suspect, one.suspect_starts = state, False, False, 0
        one.ready_at = at if state is _S.CREATED else None
        one.restarts += 1
        return (state.value,)

    def account(self) -> dict[str, Answer]:
        """Everything, to be compared."""
        return {
            one.id: (one.state.value, one.ended, one.restarts, tuple(sorted(one.runs.items())))
            for one in self.executions.values()
        }


def _moment(at: datetime | None) -> float:
    return 0.0 if at is None or at == datetime.min else at.timestamp()


def _at_most(ready_at: datetime, at: datetime) -> bool:
    return _moment(ready_at) <= at.timestamp()
