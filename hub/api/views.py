"""What the API shows: one model per thing, JSON names in camelCase."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from pydantic.alias_generators import to_camel

from hub.api.lists import Fitting
from hub.clock import iso
from hub.model.event import Receipt, StoredEvent
from hub.model.execution import Execution
from hub.model.flow import FlowRecord
from hub.model.task_run import TaskRun
from hub.plugin.context import SourceStatus
from hub.plugin.notices import Notice
from hub.plugin.storage import LogLine

_MADE_BY_HUB = frozenset(
    [
        "id",
        "number",
        "time",
        "level",
        "state",
        "revision",
        "attempt",
        "attempts",
        "depth",
        "repeats",
        "restarts",
        "total",
        "execution_id",
        "event_id",
        "parent_id",
        "replay_of",
        "created_at",
        "started_at",
        "ended_at",
        "updated_at",
        "received_at",
        "due_at",
        "settled_at",
        "delivery_id",
        "wake_at",
        "next_cursor",
        "next_after",
        "task_runs_cursor",
    ]
)
"""Fields that hold ids, moments and counts of the hub's own making; a secret that looks like one stays there."""


class View(BaseModel):
    """The base of every answer."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True, defer_build=True)

    def masked(self, mask: Callable[[Any], Any]) -> dict[str, Any]:
        """The view as JSON data, with ``mask`` over everything that the hub did not make itself."""
        found: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if isinstance(value, View):
                value = value.masked(mask)
            elif isinstance(value, list) and value and isinstance(value[0], View):
                value = [one.masked(mask) for one in value]
            elif name not in _MADE_BY_HUB:
                value = mask(value)
            found[field.alias or name] = value
        return found


Label = Annotated[str, StringConstraints(max_length=1000)]
_OMITTED: Any = Field(
    {}, description="What is left out, by its name, and why: too large for a list, or gone."
)


class TaskRunView(View):
    """One task in an execution."""

    path: str = Field(description="Where it is in the tree, `each[3]/book`.")
    task: str = Field(description="The task's id.")
    type: str
    state: str
    attempts: int = Field(description="How many attempts were made.")
    outputs: Any = None
    error: str | None = None
    started_at: str | None = None
    ended_at: str | None = None
    wake_at: str | None = Field(None, description="Until when it waits.")
    omitted: dict[str, str] = _OMITTED

    @classmethod
    async def of(cls, run: TaskRun, fitting: Fitting, where: str = "") -> TaskRunView:
        return cls(
            path=run.path,
            task=run.task,
            type=run.type,
            state=run.state.value,
            attempts=run.attempts,
            outputs=await fitting.stored("outputs", run.outputs, where),
            error=run.error,
            started_at=iso(run.started_at) if run.started_at else None,
            ended_at=iso(run.ended_at) if run.ended_at else None,
            wake_at=iso(run.wake_at) if run.wake_at and not run.state.is_terminal else None,
            omitted=fitting.omitted(),
        )


class ExecutionSummary(View):
    """An execution in a list."""

    id: str
    namespace: str
    flow: str = Field(description="The flow's id.")
    revision: int
    state: str
    labels: dict[str, str] = {}
    inputs: Any = {}
    outputs: Any = None
    error: str | None = None
    trigger_id: str | None = None
    event_id: str | None = None
    parent_id: str | None = Field(None, description="The execution that waits for it.")
    parent_path: str | None = Field(None, description="The task run there that started it.")
    replay_of: str | None = Field(None, description="The execution or event that it repeats.")
    restarts: int = Field(0, description="How often it was brought back after its end.")
    created_at: str
    started_at: str | None = None
    ended_at: str | None = None
    wake_at: str | None = Field(None, description="Until when all of it waits.")
    omitted: dict[str, str] = _OMITTED

    @classmethod
    async def fields_of(cls, execution: Execution, fitting: Fitting) -> dict[str, Any]:
        where = f"/api/v1/executions/{execution.id}"
        return {
            "id": execution.id,
            "namespace": execution.flow.namespace,
            "flow": execution.flow.id,
            "revision": execution.revision,
            "state": execution.state.value,
            "labels": dict(execution.labels),
            "inputs": await fitting.stored("inputs", execution.inputs, where),
            "outputs": await fitting.stored("outputs", execution.outputs, where),
            "error": execution.error,
            "trigger_id": execution.trigger,
            "event_id": execution.event_id,
            "parent_id": execution.parent.execution_id if execution.parent else None,
            "parent_path": execution.parent.path if execution.parent else None,
            "replay_of": execution.replay_of,
            "restarts": execution.restarts,
            "created_at": iso(execution.created_at),
            "started_at": iso(execution.started_at) if execution.started_at else None,
            "ended_at": iso(execution.ended_at) if execution.ended_at else None,
            "wake_at": iso(execution.wake_at) if execution.wake_at else None,
        }

    @classmethod
    async def of(cls, execution: Execution, fitting: Fitting) -> ExecutionSummary:
        fields = await cls.fields_of(execution, fitting)
        return cls(**fields, omitted=fitting.omitted())


class ExecutionView(ExecutionSummary):
    """One execution with its task runs."""

    trigger: Any = Field(None, description="What expressions see as `trigger`.")
    task_runs: list[TaskRunView] = Field([], description="The first 1,000, in the order they started.")
    task_runs_cursor: str | None = Field(None, description="Where the rest of the task runs begins.")


class ExecutionList(View):
    """A page of executions, newest first."""

    items: list[ExecutionSummary]
    next_cursor: str | None = None
    total: int | None = Field(None, description="How many match; only with `count=true`.")


class TaskRunList(View):
    """A page of task runs."""

    items: list[TaskRunView]
    next_cursor: str | None = None


class LogLineView(View):
    """One line of an execution's log."""

    number: int
    time: str
    level: str
    message: str
    path: str
    attempt: int
    stream: str | None = None

    @classmethod
    def of(cls, line: LogLine) -> LogLineView:
        return cls(
            number=line.number,
            time=iso(line.time),
            level=line.level,
            message=line.message,
            path=line.path,
            attempt=line.attempt,
            stream=line.stream,
        )


class LogList(View):
    """Log lines in order."""

    items: list[LogLineView]
    next_after: int | None = Field(None, description="Ask again with `after` set to this; null at the end.")


class VerdictView(View):
    """Why a trigger did or did not start its flow."""

    namespace: str
    flow: str
    trigger: str
    outcome: str = Field(description="`started`, `refused`, `invalid`, `disabled` or `tooDeep`.")
    reason: str | None = None
    execution_id: str | None = Field(None, description="What was started.")
    state: str | None = Field(None, description="Where the execution stands.")


class EventView(View):
    """A stored event, with CloudEvents attributes."""

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    time: str
    subject: str | None = None
    received_at: str
    data: Any
    namespace: str | None = None
    flow: str | None = None
    trigger: str | None = None
    depth: int = Field(0, description="How many flows led here, one after another.")
    replay_of: str | None = Field(None, description="The event that this one repeats.")
    repeats: int = Field(0, description="How often its delivery came again.")
    batch: str | None = Field(
        None, description="The event that took it up with others; empty while it waits for that."
    )
    dead: str | None = Field(None, description="Why it is a dead letter.")
    verdicts: list[VerdictView] = Field([], description="What each trigger that might have wanted it did.")

    omitted: dict[str, str] = _OMITTED

    @classmethod
    async def of(cls, stored: StoredEvent, fitting: Fitting, started: Sequence[Execution]) -> EventView:
        event = stored.event
        return cls(
            id=event.id,
            source=event.source,
            type=event.type,
            time=iso(event.time),
            subject=event.subject,
            received_at=iso(stored.received_at),
            data=await fitting.stored("data", event.data, f"/api/v1/events/{event.id}"),
            omitted=fitting.omitted(),
            namespace=event.namespace,
            flow=event.flow,
            trigger=event.trigger,
            depth=event.depth,
            replay_of=event.replay_of,
            repeats=stored.repeats,
            batch=stored.batch,
            dead=stored.dead,
            verdicts=[
                VerdictView(
                    namespace=one.flow.namespace,
                    flow=one.flow.id,
                    trigger=one.trigger or "",
                    outcome="started",
                    execution_id=one.id,
                    state=one.state.value,
                )
                for one in started
            ]
            + [
                VerdictView(
                    namespace=v.namespace,
                    flow=v.flow,
                    trigger=v.trigger,
                    outcome=v.outcome,
                    reason=v.reason,
                )
                for v in stored.verdicts
            ],
        )


class EventList(View):
    """A page of events, newest first."""

    items: list[EventView]
    next_cursor: str | None = None


class NoticeSummary(View):
    """A notice in a list."""

    id: str
    notifier: str = Field(description="Whom it is to, a name under `notifiers:` in hub.yaml.")
    state: str = Field(description="`owed`, `delivered`, `dead` or `dropped`.")
    subject: str
    level: str = Field(description="`DEBUG`, `INFO`, `WARN` or `ERROR`.")
    namespace: str | None = None
    flow: str | None = Field(None, description="The flow's id.")
    execution_id: str | None = None
    attempts: int = Field(description="How many attempts have failed.")
    error: str | None = Field(None, description="Why the last attempt failed.")
    created_at: str = Field(description="When it was first owed.")
    due_at: str | None = Field(None, description="When it is to be sent; null once it is settled.")
    settled_at: str | None = Field(None, description="When it was delivered, given up or dropped.")
    delivery_id: str | None = Field(
        None, description="The id that it is sent under, alone or with others; null until it was first tried."
    )

    @classmethod
    def fields_of(cls, notice: Notice) -> dict[str, Any]:
        return {
            "id": notice.id,
            "notifier": notice.notifier,
            "state": notice.state.value,
            "subject": notice.content.get("subject", ""),
            "level": notice.content.get("level", "INFO"),
            "namespace": notice.flow.namespace if notice.flow else None,
            "flow": notice.flow.id if notice.flow else None,
            "execution_id": notice.execution_id,
            "attempts": notice.attempts,
            "error": notice.error,
            "created_at": iso(notice.created_at),
            "due_at": iso(notice.due_at) if notice.due_at else None,
            "settled_at": iso(notice.settled_at) if notice.settled_at else None,
            "delivery_id": notice.delivery_id,
        }

    @classmethod
    def of(cls, notice: Notice) -> NoticeSummary:
        return cls(**cls.fields_of(notice))


class AttachmentView(View):
    """A file that goes with a notice."""

    name: str
    uri: str


class NoticeView(NoticeSummary):
    """One notice with what it says."""

    message: str
    html: str | None = None
    attachments: list[AttachmentView] = []

    @classmethod
    def of(cls, notice: Notice) -> NoticeView:
        content = notice.content
        return cls(
            **cls.fields_of(notice),
            message=content.get("message", ""),
            html=content.get("html"),
            attachments=[AttachmentView(name=name, uri=uri) for name, uri in content.get("attachments", ())],
        )


class NoticeList(View):
    """A page of notices, newest first."""

    items: list[NoticeSummary]
    next_cursor: str | None = None


class NotifierView(View):
    """A notifier of hub.yaml."""

    name: str
    type: str
    disabled: str | None = Field(None, description="Why nothing is sent to it; a retry by hand enables it.")
    sending: int = Field(description="How many notices are being sent.")
    delivered: int = Field(description="How many deliveries succeeded since the hub started.")
    failed: int = Field(description="How many attempts failed since then.")
    dead: int = Field(description="How many notices were given up since then.")


class NotifierList(View):
    """The notifiers, by name."""

    items: list[NotifierView]


class EventReceipt(View):
    """What became of one event that was sent or replayed."""

    event_id: str = Field(description="Of a known delivery, the first one's.")
    execution_ids: list[str] = Field(description="What it started.")
    duplicate: bool | None = Field(None, description="True for a repeat of a known delivery.")
    conflict: bool | None = Field(
        None, description="True where its source and id are known with other data; nothing was stored then."
    )
    reason: str | None = Field(None, description="Why nothing was started.")
    ignored: list[str] = Field([], description="Attributes that are not kept.")

    @classmethod
    def of(cls, receipt: Receipt, ignored: Sequence[str] = ()) -> EventReceipt:
        reason = None
        if receipt.conflict:
            reason = f"its source and id are known with other data, as event {receipt.event_id}"
        elif not receipt.execution_ids and not receipt.duplicate:
            reason = receipt.reason or "no trigger wants it"
        return cls(
            event_id=receipt.event_id,
            execution_ids=[] if receipt.conflict else list(receipt.execution_ids),
            duplicate=receipt.duplicate or None,
            conflict=receipt.conflict or None,
            reason=reason,
            ignored=list(ignored),
        )


class EventReceipts(View):
    """What became of each event, in the order they were sent."""

    items: list[EventReceipt]


class EventReplayBody(View):
    """What is repaired when an event happens once more."""

    model_config = ConfigDict(extra="forbid")

    data: dict[str, Any] = Field({}, description="In place of what its data have under the same names.")


class FlowView(View):
    """A flow in use."""

    namespace: str
    id: str
    revision: int
    description: str | None = None
    labels: dict[str, str] = {}
    disabled: bool = False
    origin: str | None = Field(None, description="The file it belongs to; null when it came through the API.")
    source_hash: str = Field(description="SHA-256 of its source, in hex: equal for equal bytes.")
    updated_at: str
    triggers: list[str] = []

    @classmethod
    def of(cls, record: FlowRecord) -> FlowView:
        return cls(
            namespace=record.key.namespace,
            id=record.key.id,
            revision=record.revision,
            description=record.summary.get("description"),
            labels=record.summary.get("labels") or {},
            disabled=record.disabled,
            origin=record.origin,
            source_hash=record.source_hash,
            updated_at=iso(record.updated_at),
            triggers=[f"{t['id']} ({t['type']})" for t in record.summary.get("triggers", ())],
        )


class ProblemView(View):
    """One finding about a flow source."""

    file: str | None = None
    line: int
    column: int
    severity: str
    message: str
    hint: str | None = None


class BrokenFile(View):
    """A flow file whose newest text cannot be used."""

    file: str
    problems: list[ProblemView]


class FlowList(View):
    """Flows in use, and files that cannot be."""

    items: list[FlowView]
    broken: list[BrokenFile] = []
    next_cursor: str | None = None


class FlowPut(FlowView):
    """A flow as it is stored now."""

    changed: bool = Field(description="False when the content was the same: no new revision.")
    warnings: list[ProblemView] = []


class FlowSource(View):
    """A revision of a flow with its source."""

    namespace: str
    id: str
    revision: int
    source: str = Field(description="The YAML as it was put.")


class FlowSourceBody(View):
    """A flow's YAML inside JSON, for clients that send nothing else."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(description="The YAML.")
    namespace: str | None = Field(None, description="If given, that of the address.")
    id: str | None = Field(None, description="If given, that of the address.")


class RevisionView(View):
    """One revision of a flow."""

    revision: int
    created_at: str


class RevisionList(View):
    """A flow's revisions, newest first."""

    items: list[RevisionView]


class NewExecutionBody(View):
    """What to start a flow with."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] = {}
    labels: dict[str, Label] = Field({}, max_length=64, description="Beside the flow's own.")
    trigger: str | None = Field(None, description="Start it as if this trigger had fired.")
    data: Any = Field(
        None, description="What expressions then see as `trigger`; for a webhook its body alone will do."
    )


class ReplayBody(View):
    """What a replay does otherwise than the original."""

    model_config = ConfigDict(extra="forbid")

    inputs: dict[str, Any] = Field({}, description="In place of the original's, by name.")
    labels: dict[str, Label] = Field({}, max_length=64, description="Beside the original's.")
    revision: int | None = Field(
        None, ge=1, le=2**63 - 1, description="Another revision of the flow; the original's by default."
    )
    from_task: str | None = Field(
        None, description="Take over what completed before this task; without inputs of its own."
    )


class ReplayView(ExecutionView):
    """The execution that a replay is."""

    gone: list[str] = Field(
        [],
        description="Tasks of the original that this revision does not have; their outputs are not taken over.",
    )


class PurgeBody(View):
    """Which ended executions to remove; `before` or `olderThan` says which are old enough."""

    model_config = ConfigDict(extra="forbid")

    before: str | None = Field(None, description="Ended before this moment, ISO 8601.")
    older_than: str | None = Field(None, description="Ended longer ago than this, `30d` or `P30D`.")
    namespace: str | None = Field(None, description="Only of this namespace.")
    flow: str | None = Field(None, description="Only of flows of this id.")
    states: list[str] = Field([], max_length=20, description="Only those that ended in one of these states.")
    dry_run: bool = Field(False, description="Only count.")
    limit: int = Field(
        10_000, ge=1, le=100_000, description="How many at most; ask again while there are more."
    )


class PurgeAnswer(View):
    """What a purge did, or would do."""

    executions: int = Field(description="How many were removed, with task runs, logs and files.")
    more: bool = Field(description="Whether there are more.")
    dry_run: bool = Field(description="Whether they were only counted.")


class SourcePartView(View):
    """One part of what a trigger reads, a partition for one."""

    part: str
    lag: int | None = Field(None, description="How many records wait in it; null where that is not known.")


class SourceView(View):
    """What a trigger reads part by part, and how far it is."""

    assignment: list[SourcePartView] = Field(description="The parts that this node reads.")
    lag: int | None = Field(None, description="How many records wait in all of them.")
    taken: int = Field(description="Records that were stored since the trigger began to run here.")
    dead: int = Field(description="Those of them that are dead letters.")
    committed_at: str | None = Field(None, description="When the source was last told what was taken.")

    @classmethod
    def of(cls, status: SourceStatus) -> SourceView:
        known = [lag for lag in status.lags.values() if lag is not None]
        return cls(
            assignment=[SourcePartView(part=part, lag=lag) for part, lag in status.lags.items()],
            lag=sum(known) if known else None,
            taken=status.taken,
            dead=status.dead,
            committed_at=iso(status.committed_at) if status.committed_at is not None else None,
        )


class TriggerView(View):
    """A trigger of a flow in use."""

    namespace: str
    flow: str
    id: str
    type: str
    state: str
    error: str | None = None
    disabled: bool = False
    url: str | None = Field(None, description="Where a webhook is reached.")
    curl: str | None = Field(None, description="A line that calls it.")
    next_times: list[str] = Field([], description="A schedule's next planned times.")
    source: SourceView | None = Field(None, description="What it reads part by part, where it does.")


class TriggerTestBody(View):
    """What a test lets happen."""

    model_config = ConfigDict(extra="forbid")

    data: Any = Field(
        None, description="A webhook's body, else what expressions see as `trigger`; a sample by default."
    )


class SentRequest(View):
    """The request that a test sent to a webhook."""

    method: str
    headers: dict[str, str]
    body: str


class TriggerTest(View):
    """What a test did; what it started is real."""

    sent: SentRequest | None = Field(None, description="The request, signed as its sender would sign it.")
    status: int | None = Field(None, description="What the webhook answered.")
    answer: Any = None
    events: list[EventReceipt] = Field([], description="The events that were stored, none if it was refused.")


class NodeView(View):
    """One of the hubs over a storage."""

    number: int
    name: str = Field(description="Its machine and process.")
    version: str
    state: str = Field(description="`alive`, `draining`, or `silent`: the others take over what it moves.")
    executions: int = Field(description="How many executions it moves.")
    this: bool = Field(description="Whether it is the hub that was asked.")
    started_at: str
    heartbeat_at: str
    lease_expires_at: str


class NodeList(View):
    """The hubs over a storage."""

    items: list[NodeView]


class TriggerList(View):
    """Triggers of the flows in use."""

    items: list[TriggerView]
    next_cursor: str | None = None


class ListenerView(View):
    """A listener of a plugin and how it does."""

    type: str
    state: str = Field(
        description="running, failing (it is started again), ended (it wants no more) or stopped."
    )
    told: int = Field(description="How many news it was told since the hub started.")
    dropped: int = Field(description="How many of them gave way because it was too slow.")
    waiting: int = Field(description="How many wait for it.")
    failures: int
    error: str | None = None


class PluginFaultView(View):
    """Something that a plugin did wrong while the hub ran."""

    component: str | None = Field(None, description="The type of what did it, where somebody can say.")
    fault: str
    hint: str = Field(description="What to do.")
    where: str | None = Field(None, description="The execution and task run, or the trigger.")
    count: int = Field(description="How often since the hub started.")
    last_at: str


class PluginView(View):
    """A plugin, how it was loaded, and what it did wrong since."""

    name: str
    distribution: str | None = None
    version: str | None = None
    types: list[str] = []
    state: str
    error: str | None = None
    advice: str | None = Field(None, description="What its author could do better.")
    faults: list[PluginFaultView] = []
    listeners: list[ListenerView] = []


class PluginList(View):
    """The hub's plugins."""

    items: list[PluginView]


class WebhookAnswer(View):
    """What a webhook answers once its event is durable."""

    event_id: str
    execution_ids: list[str]
    duplicate: bool | None = Field(None, description="True for a repeat of a known delivery.")
    batched: bool | None = Field(None, description="True where it starts the flow together with others.")
    reason: str | None = Field(None, description="Why nothing was started.")


class ErrorView(View):
    """Every error's shape."""

    code: str
    message: str
    hint: str | None = None
    details: Any = None


class HealthView(View):
    """Whether the hub lives, or takes events."""

    status: str
