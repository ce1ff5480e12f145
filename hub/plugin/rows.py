"""Rows of a storage that speaks SQL, and the model objects they are: columns by name, values as ``portable`` moves them.

Called by the built-in storages, which differ in how they write and share what a row means. Moments are whole
microseconds since 1970 in UTC, data is the JSON text as it was written.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from hub.clock import from_micros, to_micros
from hub.model import jsontext
from hub.model.event import Event, StoredEvent, Verdict
from hub.model.execution import Claim, Execution, ExecutionState, Parent
from hub.model.flow import FlowRecord
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.notices import Notice, NoticeState
from hub.plugin.storage import LogLine


def moment(micros: int | None) -> datetime | None:
    """A moment out of a column that may be empty."""
    return None if micros is None else from_micros(micros)


def json_or_none(text: str | None) -> Any:
    """Data out of a column that may be empty."""
    return None if text is None else jsontext.loads(text)


EXECUTION_COLUMNS = (
    "e.id, e.namespace, e.flow, e.revision, e.state, e.created_at, e.started_at, e.ended_at, e.trigger, "
    "e.event_id, e.inputs, e.labels, e.outputs, e.error, e.wake_at, e.depth, e.parent_id, e.parent_path, "
    "e.replay_of, e.restarts"
)
_EXECUTION_WIDTH = 20


def execution_of(row: Sequence[Any], trigger_data: Mapping[str, Any] | None = None) -> Execution:
    """An execution out of ``EXECUTION_COLUMNS``."""
    return Execution(
        id=row[0],
        flow=FlowKey(row[1], row[2]),
        revision=row[3],
        state=ExecutionState(row[4]),
        created_at=from_micros(row[5]),
        started_at=moment(row[6]),
        ended_at=moment(row[7]),
        trigger=row[8],
        event_id=row[9],
        inputs=jsontext.loads(row[10]),
        labels=jsontext.loads(row[11]),
        outputs=json_or_none(row[12]),
        error=row[13],
        wake_at=moment(row[14]),
        trigger_data=trigger_data,
        depth=row[15],
        parent=Parent(row[16], row[17]) if row[16] is not None else None,
        replay_of=row[18],
        restarts=row[19],
    )


CLAIM_COLUMNS = (
    EXECUTION_COLUMNS + ", e.fence, e.suspect, e.suspect_starts, e.variables,"  # noqa: S608 - constants alone
    " EXISTS (SELECT 1 FROM task_runs t WHERE t.execution_id = e.id)"
)


def claim_of(row: Sequence[Any], trigger_data: Mapping[str, Any] | None) -> Claim:
    """A claim out of ``CLAIM_COLUMNS`` as they stand after claiming."""
    fence, suspect, suspect_starts, variables, has_rows = row[_EXECUTION_WIDTH : _EXECUTION_WIDTH + 5]
    return Claim(
        execution=execution_of(row, trigger_data),
        fence=fence,
        fresh=fence == 1 and not has_rows,
        suspect=bool(suspect),
        suspect_starts=suspect_starts,
        variables=json_or_none(variables),
    )


EVENT_COLUMNS = (
    "id, source, type, time, subject, namespace, flow, trigger, depth, received_at, data, verdicts, "
    "replay_of, dead, repeats, batch"
)


def stored_event_of(row: Sequence[Any]) -> StoredEvent:
    """An event out of ``EVENT_COLUMNS``."""
    event = Event(
        id=row[0],
        source=row[1],
        type=row[2],
        time=from_micros(row[3]),
        subject=row[4],
        namespace=row[5] or None,
        flow=row[6] or None,
        trigger=row[7] or None,
        depth=row[8],
        data=jsontext.loads(row[10]),
        replay_of=row[12],
    )
    return StoredEvent(event, from_micros(row[9]), verdicts_of(row[11]), row[13], row[14], row[15])


def flow_name(namespace: str | None, flow: str | None) -> str | None:
    """``namespace/id``, or None where there is no flow."""
    return f"{namespace}/{flow}" if flow else None


def verdicts_of(text: str) -> tuple[Verdict, ...]:
    """An event's verdicts out of their column."""
    return tuple(Verdict(*fields) for fields in jsontext.loads(text))


def verdicts_text(verdicts: Sequence[Verdict]) -> str:
    """An event's verdicts as their column holds them."""
    return jsontext.dumps(
        [[v.namespace, v.flow, v.trigger, v.outcome, v.reason, v.execution_id] for v in verdicts]
    )


TASK_RUN_COLUMNS = (
    "scope, name, task, type, state, attempts, outputs, error, decisions, started_at, ended_at, wake_at"
)


def task_run_of(row: Sequence[Any]) -> TaskRun:
    """A task run out of ``TASK_RUN_COLUMNS``."""
    return TaskRun(
        path=row[0] + row[1],
        task=row[2],
        type=row[3],
        state=TaskRunState(row[4]),
        attempts=row[5],
        outputs=json_or_none(row[6]),
        error=row[7],
        decisions=json_or_none(row[8]),
        started_at=moment(row[9]),
        ended_at=moment(row[10]),
        wake_at=moment(row[11]),
    )


FLOW_COLUMNS = "namespace, id, revision, source_hash, origin, disabled, summary, updated_at, retired_at"


def flow_of(row: Sequence[Any]) -> FlowRecord:
    """A flow out of ``FLOW_COLUMNS``."""
    return FlowRecord(
        key=FlowKey(row[0], row[1]),
        revision=row[2],
        source_hash=row[3],
        origin=row[4],
        disabled=bool(row[5]),
        summary=jsontext.loads(row[6]),
        updated_at=from_micros(row[7]),
        retired_at=moment(row[8]),
    )


def log_lines_text(lines: Sequence[LogLine]) -> str:
    """A chunk of log lines as a row holds it."""
    return jsontext.dumps(
        [[to_micros(x.time), x.level, x.message, x.path, x.attempt, x.stream] for x in lines]
    )


def log_lines_of(first: int, text: str) -> Iterator[LogLine]:
    """The lines of a chunk, whose first has the number ``first``."""
    for offset, (time, level, message, path, attempt, stream) in enumerate(jsontext.loads(text)):
        yield LogLine(from_micros(time), level, message, path, attempt, stream, first + offset)


NOTICE_COLUMNS = (
    "id, notifier, state, content, created_at, due_at, delivery_id, attempts, error, settled_at, topic,"
    " namespace, flow, execution_id"
)


def notice_of(row: Sequence[Any]) -> Notice:
    """A notice out of ``NOTICE_COLUMNS``."""
    return Notice(
        id=row[0],
        notifier=row[1],
        state=NoticeState(row[2]),
        content=jsontext.loads(row[3]),
        created_at=from_micros(row[4]),
        due_at=moment(row[5]),
        delivery_id=row[6],
        attempts=row[7],
        error=row[8],
        settled_at=moment(row[9]),
        topic=row[10],
        flow=FlowKey(row[11], row[12]) if row[11] is not None else None,
        execution_id=row[13],
    )
