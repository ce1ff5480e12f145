"""One attempt of a task run: its fields rendered, its component run within its time, its outcome named."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from hub.engine.compiled import CompiledTask
from hub.engine.faults import note_of_run, note_of_task
from hub.engine.outputs import outputs_of, plain
from hub.engine.rendering import Field, at_once
from hub.engine.scope import RunScope
from hub.engine.stopping import CancelledItself, Leaving, Reason, Stopped
from hub.engine.task_context import RunningTask
from hub.engine.threads import RunsOn
from hub.errors import HubError, InvalidInput, StorageError
from hub.model.durations import format_duration, parse_duration
from hub.plugin.outcomes import Fail, Outcome, Retry, Skip, Wait
from hub.plugin.task import Task

if TYPE_CHECKING:
    from hub.engine.task_runner import LiveRun

log = structlog.get_logger("hub.engine")

_FALSE_TEXTS = {"", "false", "0", "no", "null", "none"}
DEADLINE = "$deadline"
VALUES = "$fields"
_RUNS_ON, _LOOK = "its thread takes no notice that it has to end", "look at ctx.killed in it"
_LAST_MOMENT = datetime.max.replace(tzinfo=UTC)


class Problem(Exception):
    """An attempt that failed, in the user's words."""

    def __init__(
        self,
        reason: str,
        *,
        final: bool = False,
        after: timedelta | None = None,
        outputs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.after = after
        self.outputs = outputs


async def attempt(live: LiveRun, scope: RunScope) -> Mapping[str, Any]:
    """Run the component once and answer its outputs.

    Raises the steering outcomes, ``Leaving`` and ``Stopped``, and ``Problem`` for every failure.
    """
    stops = live.executor.stops
    length: timedelta | None = None
    alarm: asyncio.TimerHandle | None = None
    section = stops.code_of_others(live)
    try:
        if live.task.timeout is not None:
            length = await _length(live, scope)
            alarm = await _set_alarm(live, length)
        component = live.task.ready
        if component is None and live.task.decided:
            component = await _decided_component(live, scope)
        try:
            with section:
                if component is None:
                    fields = live.task.fields
                    values = at_once(fields, scope.names) or await _rendered(live, fields, scope)
                    component = live.task.instance(values)
                ctx = RunningTask(live.executor, live, scope)
                returned = await (
                    component.run(ctx) if live.task.is_async else _run_beside(live, component, ctx)
                )
                while type(returned) is not dict and inspect.isawaitable(returned):
                    returned = await returned  # a decorated coroutine function looks like a plain one
        finally:
            if section.strand is not None and section.strand.cancelling():
                await _absorb(section.strand, live)
        return outputs_of(returned, live.task.component.Output)
    except RunsOn:
        raise _runs_on(live, length) from None
    except Stopped:
        if live.is_late and length is not None and not stops.has_to_stop(live.group):
            raise _timed_out(length) from None
        raise
    except (Problem, Wait, Skip, Leaving, StorageError, KeyboardInterrupt, asyncio.CancelledError):
        raise
    except BaseException as error:
        # a task's own failure must not become the hub's, not even where it asks the process to exit
        stops.check(live.group)
        if live.is_late and length is not None:
            raise _timed_out(length) from error
        note_of_task(live, error)
        problem = problem_of(error)
        if isinstance(error, Outcome):
            problem.outputs = _kept(error, live)
        elif not isinstance(error, HubError):
            log.debug("task raised", execution=live.executor.execution_id, task=live.path, exc_info=error)
        raise problem from error
    finally:
        if alarm is not None:
            alarm.cancel()


async def _run_beside(live: LiveRun, component: Task, ctx: RunningTask) -> Any:
    ctx.prepare_for_thread()
    threads = live.executor.services.threads
    return await threads.run(lambda: component.run(ctx), name=f"task {live.path}")


async def _absorb(strand: asyncio.Task[Any], live: LiveRun) -> None:
    """Take back a cancellation that nobody of the engine has asked for. Raises ``CancelledItself`` for it.

    Raises ``CancelledError`` where the process is going down: then everything is being cancelled.
    """
    while strand.cancelling():
        strand.uncancel()
    for _ in range(2):
        # one that was not delivered yet comes now; and what else is being cancelled takes notice
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    if live.executor.host.is_over or live.executor.stops.reason is Reason.HAND_BACK:
        raise asyncio.CancelledError
    raise CancelledItself("the task cancelled itself")


async def is_wanted(live: LiveRun, scope: RunScope) -> bool:
    """Whether the guard of a task run holds. Raises ``Problem``."""
    task, executor = live.task, live.executor
    if task.declaration.disabled:
        return False
    if task.when is None:
        return True
    try:
        with executor.stops.code_of_others(live):
            return is_true(await task.when.render(scope.names, executor.services.vault))
    except StorageError:
        raise
    except Exception as error:
        raise Problem(f"when: {problem_of(error).reason}") from error


def is_true(value: Any) -> bool:
    """What a guard means: false, null, 0, nothing and the words for them are false."""
    if isinstance(value, str):
        return value.strip().lower() not in _FALSE_TEXTS
    return bool(value)


def problem_of(error: BaseException) -> Problem:
    """What code of others raised, in the user's words."""
    if isinstance(error, Retry):
        return Problem(error.reason, after=error.after)
    if isinstance(error, Outcome):
        return Problem(error.reason, final=isinstance(error, Fail))
    if isinstance(error, HubError):
        return Problem(error.message + (f" ({error.hint})" if error.hint else ""))
    if isinstance(error, TimeoutError):
        return Problem(str(error) or "timed out")
    if isinstance(error, SystemExit):
        return Problem(f"it asked the process to exit with {error.code!r}")
    try:
        text = str(error)
    except Exception:  # even the text of a failure is code of others
        text = ""
    name = type(error).__name__
    return Problem(f"{name}: {text}" if text else name)


def _kept(outcome: Outcome, live: LiveRun) -> Mapping[str, Any] | None:
    """The outputs of a failure; those that cannot be stored are no second failure."""
    if outcome.outputs is None:
        return None
    try:
        return outputs_of(outcome.outputs)
    except InvalidInput as error:
        live.say("WARN", f"the outputs of the failure are dropped: {error.message}")
        return None


def _timed_out(length: timedelta) -> Problem:
    return Problem(f"timed out after {format_duration(length)}")


def _runs_on(live: LiveRun, length: timedelta | None) -> BaseException:
    """A thread took no notice: nothing may be tried again beside it."""
    live.say("WARN", f"{_RUNS_ON}, and runs on; {_LOOK}")
    note_of_run(live, _RUNS_ON, _LOOK)
    if live.is_late and length is not None and not live.executor.stops.has_to_stop(live.group):
        reason = f"{_timed_out(length).reason}; its thread runs on, so it is not tried again"
        return Problem(reason, final=True)
    return Stopped()


# time


async def _length(live: LiveRun, scope: RunScope) -> timedelta:
    field = live.task.timeout
    assert field is not None
    if field.is_constant:
        value = field.constant
    else:
        with live.executor.stops.code_of_others(live):
            value = await field.render(scope.names, live.executor.services.vault)
    return value if isinstance(value, timedelta) else parse_duration(str(value))


async def _set_alarm(live: LiveRun, length: timedelta) -> asyncio.TimerHandle:
    """Let the time of an attempt run out; what is stored of it is not stretched by waiting.

    A group's is stored when it begins, a leaf's when it waits. Raises ``Problem`` when it is over already.
    """
    clock = live.executor.services.clock
    try:
        until = clock.now() + length
    except OverflowError:
        until = _LAST_MOMENT
    if live.task.is_group:
        until = datetime.fromisoformat(await live.decide(DEADLINE, until.isoformat))
        live.executor.waits.note_deadline(live, until)
    elif DEADLINE in live.decisions:
        until = datetime.fromisoformat(live.decisions[DEADLINE])
    live.deadline = until
    left = (until - clock.now()).total_seconds()
    if left <= 0:
        live.executor.stops.note_late(live)
        raise _timed_out(length)
    return asyncio.get_running_loop().call_later(left, live.executor.stops.run_out, live)


# fields


async def _rendered(live: LiveRun, fields: Mapping[str, Field], scope: RunScope) -> dict[str, Any]:
    vault = live.executor.services.vault
    return {name: await field.render(scope.names, vault) for name, field in fields.items()}


async def _decided_component(live: LiveRun, scope: RunScope) -> Task:
    """The component of a task whose path some field decides: that is stored first and read afterwards."""
    task: CompiledTask = live.task
    is_new = VALUES not in live.decisions
    with live.executor.stops.code_of_others(live):
        values = await _rendered(live, task.fields, scope)
        decided = await _rendered(live, task.decided, scope) if is_new else {}
    if is_new:
        await live.decide(VALUES, lambda: plain(decided))
    return task.instance({**values, **live.decisions[VALUES]})
