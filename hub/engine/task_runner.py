"""Run one task run to its outcome: guard, start, attempts, retry, wait, end.

Called by the executor for every task of the tree. What decides the path (decided fields, deadlines, the time
of the next attempt) is stored before it is used, and read, not made again, on a later walk.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from hub.engine.attempt import DEADLINE, Problem, attempt, is_wanted
from hub.engine.compiled import CompiledTask
from hub.engine.lateness import end_what_it_left
from hub.engine.outputs import plain
from hub.engine.scope import RunScope
from hub.engine.stopping import Reason, Stopped
from hub.engine.waiting import Wake
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.notices import NewNotice
from hub.plugin.outcomes import MOST_ATTEMPTS, Skip, Wait

if TYPE_CHECKING:
    from hub.engine.executor import Executor

ATTEMPTS_BEFORE = "$attemptsBefore"
"""The deciding value that holds how many attempts were made before a restart."""
_FAILED = "$failed"
"""… that holds the last attempt that failed, where what it started must not be taken for the next one's."""
ROUND = "$round"
"""… that holds which try a restart goes on with, where what it had started has succeeded since."""
_CRASHES = "$crashes"
"""… that holds how often in a row the node went down while it ran."""
_CULPRIT = "$culprit"
"""… that holds, of a group that has failed, the id of the task in it that did: a later walk does not look inside."""
_MOST_BLAMED_STARTS = 3
"""Starts of a suspect that took the node down, after which its task is not tried again."""
_MOST_CRASHES = 10
"""How often in a row, whatever else of its execution got on meanwhile."""
_SHORTEST_REST = timedelta(milliseconds=100)
"""Between attempts that would follow each other at once."""
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)
_FAILURES = (TaskRunState.FAILED, TaskRunState.KILLED)


@dataclass(slots=True)
class Ended:
    """A task run's end; ``row`` is set while it is not recorded yet."""

    state: TaskRunState
    error: str | None = None
    row: TaskRun | None = None
    notices: tuple[NewNotice, ...] = ()
    """What ``row`` owes."""
    culprit: str | None = None
    """The id of the task inside it that failed first, and so made it fail."""

    @property
    def is_failure(self) -> bool:
        # KILLED: its group's time ran out, and the node went down before it could say so
        return self.state in _FAILURES


class LiveRun:
    """A task run that is under way, with what is stored of it."""

    __slots__ = (
        "attempts",
        "child",
        "culprit",
        "deadline",
        "decisions",
        "executor",
        "fresh",
        "group",
        "has_begun",
        "has_started_others",
        "idle_turns",
        "is_late",
        "is_new_attempt",
        "is_recorded",
        "is_waiting",
        "killed",
        "owed",
        "path",
        "progress",
        "started_at",
        "stored",
        "task",
    )

    def __init__(
        self,
        executor: Executor,
        task: CompiledTask,
        path: str,
        stored: TaskRun | None,
        group: LiveRun | None = None,
    ) -> None:
        self.executor = executor
        self.task = task
        self.path = path
        self.group = group
        """The task run that it runs inside of."""
        self.stored = stored
        self.fresh = stored is None
        self.is_recorded = stored is not None
        """Whether ``stored`` is what the storage holds."""
        self.progress: dict[str, Any] | None = dict(stored.outputs) if stored and stored.outputs else None
        """How far a group's branches are, shown as its outputs until it ends."""
        self.attempts = stored.attempts if stored else 0
        self.started_at = stored.started_at if stored else None
        self.decisions: dict[str, Any] = dict(stored.decisions or {}) if stored else {}
        self.child: str | None = None
        """The execution that it waits for."""
        self.deadline: datetime | None = None
        """When the time of its attempt is over, waiting included."""
        self.has_begun = False
        """Whether an attempt is under way."""
        self.is_new_attempt = False
        """Whether it was counted, and did not go on with an earlier one."""
        self.is_waiting = False
        self.is_late = False
        """Whether its time is over."""
        self.has_started_others = False
        self.idle_turns = 0
        """How often in a row it waited for nothing."""
        self.owed: list[NewNotice] = []
        """The notices that this attempt owes, stored with the end of the task run."""
        self.culprit: str | None = None
        """The task of a group that failed first."""
        self.killed: threading.Event | None = None
        """What a thread looks at, where one runs for it."""

    def row(
        self,
        state: TaskRunState,
        *,
        outputs: Mapping[str, Any] | None = None,
        error: str | None = None,
        decisions: Mapping[str, Any] | None = None,
        ended_at: datetime | None = None,
        wake_at: datetime | None = None,
    ) -> TaskRun:
        """The task run as it is to be stored."""
        task, begun = self.task.declaration, self.started_at
        return TaskRun(
            self.path,
            task.id,
            task.type,
            state,
            self.attempts,
            outputs,
            error,
            decisions,
            begun,
            ended_at,
            wake_at,
        )

    def say(self, level: str, message: str) -> None:
        """Add a line to the log."""
        self.executor.log.add(level, message, path=self.path, attempt=self.attempts, stream=None)

    # deciding values

    async def decide(self, name: str, make: Callable[[], Any]) -> Any:
        """A deciding value: the stored one, else made now and stored before it is used."""
        if name not in self.decisions:
            value = plain(make())
            packed = await self._packed({**self.decisions, name: value})
            await self.executor.recorder.rows(self.row(TaskRunState.RUNNING, decisions=packed))
            self.decisions.setdefault(name, value)
        return self.decisions[name]

    async def packed_decisions(self) -> Mapping[str, Any]:
        """The deciding values as a row holds them."""
        return await self._packed(dict(self.decisions))

    async def _packed(self, decisions: Mapping[str, Any]) -> Mapping[str, Any]:
        executor, task = self.executor, self.task.declaration.id
        payloads = executor.services.payloads
        return await executor.recorder.persist(lambda: payloads.pack(executor.execution_id, task, decisions))

    async def load_decisions(self) -> None:
        """Fetch stored deciding values that were too large for a row."""
        executor, stored = self.executor, self.decisions
        payloads = executor.services.payloads
        self.decisions = dict(await executor.recorder.persist(lambda: payloads.unpack(stored)))

    @property
    def round(self) -> int:
        """Which of its tries this is; a crash is none, so what it has started stays its own."""
        return round_of(self.decisions)

    # attempts

    def begin_attempt(self) -> None:
        """Count a new attempt, unless it goes on with one that waited."""
        stored = self.stored
        resumes = stored is not None and (
            stored.state is TaskRunState.PAUSED or (self.task.is_group and self.attempts > 0)
        )
        self.is_new_attempt = not resumes
        self.attempts += self.is_new_attempt
        self.started_at = self.started_at or self.executor.services.clock.now()
        self.stored = None
        self.is_recorded = False
        self.has_begun = True
        # what failed or waited is done again from its beginning
        self.owed.clear()

    def end_attempt(self) -> None:
        """It came to an outcome that is not the end: what follows has its own time."""
        self.has_begun = self.is_late = False
        self.killed = None


def round_of(decisions: Mapping[str, Any]) -> int:
    """See ``LiveRun.round``."""
    if ROUND in decisions:
        return int(decisions[ROUND])
    return max(int(decisions.get(_FAILED, 0)), int(decisions.get(ATTEMPTS_BEFORE, 0))) + 1


async def run_task(
    executor: Executor,
    task: CompiledTask,
    scope: RunScope,
    stored: TaskRun | None,
    *,
    group: LiveRun | None,
    record: bool,
) -> Ended:
    """Run a task run to its end; ``record`` False leaves the last row to the caller.

    Raises ``Leaving`` when the tree is being left, ``Stopped`` when it has to stop.
    """
    if stored is not None and stored.state.is_terminal:
        await _take_outputs(executor, task, scope, stored)
        return Ended(stored.state, stored.error, culprit=(stored.decisions or {}).get(_CULPRIT))
    executor.stops.check(group)
    live = LiveRun(executor, task, scope.prefix + task.declaration.id, stored, group)
    if stored is not None and live.decisions:
        await live.load_decisions()
    try:
        if live.fresh and (task.when is not None or task.declaration.disabled):
            try:
                wanted = await is_wanted(live, scope)
            except Problem as problem:
                return await _failed(live, scope, problem, record=record)
            if not wanted:
                return await _end(live, scope, TaskRunState.SKIPPED, None, None, record=record)
        return await _attempts(live, scope, record=record)
    except Stopped:
        await _note_stopped(live)
        raise


async def _take_outputs(executor: Executor, task: CompiledTask, scope: RunScope, stored: TaskRun) -> None:
    outputs = stored.outputs
    if outputs is not None:
        payloads = executor.services.payloads
        taken = await executor.recorder.persist(lambda: payloads.unpack(outputs))
        scope.outputs[task.declaration.id] = taken
    elif stored.state is not TaskRunState.SKIPPED:
        scope.outputs[task.declaration.id] = {}


async def _attempts(live: LiveRun, scope: RunScope, *, record: bool) -> Ended:
    """Attempt after attempt until there is an outcome."""
    executor = live.executor
    while True:
        if live.stored is not None:
            await _wait_where_stored(live)
        executor.stops.check(live.group)
        if live.stored is not None and _went_down_with_it(live, live.stored):
            problem = await _after_crash(live)
            if problem is not None:
                return await _failed(live, scope, problem, record=record)
        live.begin_attempt()
        start = executor.recorder.note_start(live)
        if start is not None:
            await start
        try:
            outputs = await attempt(live, scope)
        except Wait as wait:
            await _plan_wait(live, wait)
            continue
        except Skip as skip:
            return await _end(live, scope, TaskRunState.SKIPPED, None, skip.reason, record=record)
        except Problem as problem:
            if live.is_late:
                await end_what_it_left(live)
            retry_at = _retry_at(live, problem)
            if retry_at is None:
                return await _failed(live, scope, problem, record=record)
            await _plan_retry(live, problem, retry_at)
            continue
        retry = live.task.declaration.retry
        warned = executor.take_warning(live) or (live.attempts > 1 and retry and retry.warning_on_retry)
        state = TaskRunState.WARNING if warned else TaskRunState.SUCCESS
        return await _end(live, scope, state, outputs, None, record=record)


# waiting


async def _wait_where_stored(live: LiveRun) -> None:
    """Wait until the moment that the row names, or for the execution, if it waits for either."""
    row, child = live.stored, live.child
    if row is None or (row.wake_at is None and child is None):
        return
    live.child = None
    executor = live.executor
    wake = Wake(_earliest(row.wake_at, _deadline(live)), child, row.state)
    if executor.waits.is_over(wake):
        live.idle_turns += 1
        await asyncio.sleep(0)
        if live.idle_turns == 1:
            return
        # once may happen; a task that asks for it again and again must not keep the hub from everything else
        wake = Wake(executor.services.clock.now() + _SHORTEST_REST, None, row.state)
        row = replace(row, wake_at=wake.until)
    else:
        live.idle_turns = 0
    await executor.wait(live, wake, row)


async def _plan_wait(live: LiveRun, wait: Wait) -> None:
    """An attempt waits: it goes on later, within the time that it has left."""
    live.end_attempt()
    is_timed = live.deadline is not None and DEADLINE not in live.decisions
    if live.deadline is not None and is_timed:
        live.decisions[DEADLINE] = live.deadline.isoformat()
    decisions = await _settled(live, changed=is_timed)
    live.stored = live.row(TaskRunState.PAUSED, wake_at=wait.until, decisions=decisions)
    live.child = wait.execution


def _deadline(live: LiveRun) -> datetime | None:
    """When the time of an attempt that waits is over."""
    decided = live.decisions.get(DEADLINE)
    return datetime.fromisoformat(decided) if decided is not None else None


def _earliest(*moments: datetime | None) -> datetime | None:
    return min((moment for moment in moments if moment is not None), default=None)


def _retry_at(live: LiveRun, problem: Problem) -> datetime | None:
    policy = live.task.declaration.retry
    if problem.final or live.task.is_group or (policy is None and problem.after is None):
        return None
    now = live.executor.services.clock.now()
    # a restart begins a new round of attempts
    attempts = live.attempts - int(live.decisions.get(ATTEMPTS_BEFORE, 0))
    try:
        if policy is None:
            planned = None if attempts >= MOST_ATTEMPTS else now
        else:
            planned = policy.next_attempt_at(attempt=attempts, first_at=live.started_at or now, failed_at=now)
        if planned is None:
            return None
        if problem.after is not None:
            planned = now + problem.after
    except OverflowError:
        return _LAST_MOMENT
    return planned if planned > now else now + _SHORTEST_REST


async def _plan_retry(live: LiveRun, problem: Problem, retry_at: datetime) -> None:
    reason = live.executor.services.vault.mask(problem.reason)
    live.say("WARN", f"attempt {live.attempts} failed: {reason}; next at {retry_at.isoformat()}")
    live.end_attempt()
    # one that was too late before it began again may have started them on an earlier walk
    is_changed = live.decisions.pop(DEADLINE, None) is not None or live.has_started_others
    if is_changed:
        live.decisions.pop(ROUND, None)
        live.decisions[_FAILED] = live.attempts
    decisions = await _settled(live, changed=is_changed)
    live.deadline = None
    live.stored = live.row(TaskRunState.RETRYING, wake_at=retry_at, error=reason, decisions=decisions)
    # what the next attempt does is no more idle than its delay
    live.idle_turns = 0


async def _settled(live: LiveRun, *, changed: bool = False) -> Mapping[str, Any] | None:
    """The deciding values where they have changed: an attempt that came to an outcome took no node down."""
    if live.decisions.pop(_CRASHES, None) is None and not changed:
        return None
    return await live.packed_decisions()


# crashes


def _went_down_with_it(live: LiveRun, stored: TaskRun) -> bool:
    """Whether it is a leaf that was running when its node went down."""
    return stored.state is TaskRunState.RUNNING and not live.task.is_group


async def _after_crash(live: LiveRun) -> Problem | None:
    """Count, before it is tried again; one that went down with its node again and again is not.

    A crash alone blames nobody: whoever kills the hub finds some task running. So a few count only against a
    suspect, which runs after the others, and alone once it has gone down as one.
    """
    crashes = int(live.decisions.get(_CRASHES, 0)) + 1
    if min(crashes, live.executor.claim.suspect_starts) >= _MOST_BLAMED_STARTS or crashes >= _MOST_CRASHES:
        return Problem(f"the hub went down {crashes} times while it ran; it is not tried again", final=True)
    live.decisions[_CRASHES] = crashes
    await live.executor.recorder.rows(live.row(TaskRunState.RUNNING, decisions=await live.packed_decisions()))
    return None


# ends


async def _note_stopped(live: LiveRun) -> None:
    """A task run stops: killed with its execution or group, or handed back to be gone on with."""
    executor = live.executor
    reason = executor.stops.reason
    executor.forget(live)
    if reason is Reason.LOST or (live.fresh and not live.has_begun and not live.is_waiting):
        return
    if reason is not Reason.HAND_BACK:
        error = "killed" if reason is not None else "the time of its group was over"
        now = executor.services.clock.now()
        executor.recorder.soon(live.row(TaskRunState.KILLED, ended_at=now, error=error))
    elif live.task.is_group:
        executor.recorder.soon(live.row(TaskRunState.RUNNING, outputs=live.progress))
    elif live.has_begun:
        executor.recorder.soon(_handed_back(live, await _settled(live)))


def _handed_back(live: LiveRun, decisions: Mapping[str, Any] | None) -> TaskRun:
    """The row of a leaf whose attempt counts for nothing."""
    if not live.is_new_attempt:
        return live.row(TaskRunState.PAUSED, decisions=decisions)
    live.attempts = max(live.attempts - 1, 0)
    return live.row(TaskRunState.CREATED, decisions=decisions)


async def _failed(live: LiveRun, scope: RunScope, problem: Problem, *, record: bool) -> Ended:
    reason = live.executor.services.vault.mask(problem.reason)
    live.say("ERROR", reason)
    state = TaskRunState.WARNING if live.task.declaration.allow_failure else TaskRunState.FAILED
    return await _end(live, scope, state, problem.outputs or {}, reason, record=record)


async def _end(
    live: LiveRun,
    scope: RunScope,
    state: TaskRunState,
    outputs: Mapping[str, Any] | None,
    error: str | None,
    *,
    record: bool,
) -> Ended:
    """The end of a task run: outputs kept, stored now or left to the caller."""
    executor = live.executor
    live.has_begun = False
    packed, payloads = outputs, executor.services.payloads
    text = payloads.too_large(outputs) if outputs else None
    if text is not None:
        large = text
        packed = await executor.recorder.persist(
            lambda: payloads.put_away(executor.execution_id, live.path, large)
        )
    if outputs is not None:
        scope.outputs[live.task.declaration.id] = outputs
    decisions, culprit = None, live.culprit if error is not None and not live.is_late else None
    if culprit is not None:
        live.decisions[_CULPRIT] = culprit
        decisions = await live.packed_decisions()
    row = live.row(
        state, outputs=packed, error=error, decisions=decisions, ended_at=executor.services.clock.now()
    )
    executor.forget(live)
    notices = tuple(live.owed)
    if not record:
        return Ended(state, error, row, notices, culprit)
    await executor.recorder.rows(row, progress=True, notices=notices)
    return Ended(state, error, culprit=culprit)
