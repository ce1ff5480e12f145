"""Storages: where the state lives.

The engine decides; a storage keeps, all or nothing, and answers. Every write of an execution carries the
fence of its claim; a write with an old fence changes nothing and raises ``FenceRefused``. Writes of many
executions may share one commit, but each item gets its own answer, and an answer means durable.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from hub.clock import Clock
from hub.model.event import Event, Receipt, StoredEvent, Verdict
from hub.model.execution import Claim, Execution, ExecutionState, NewExecution
from hub.model.flow import FlowRecord
from hub.model.frozen import dataclass
from hub.model.ids import FlowKey, TriggerKey
from hub.model.task_run import TaskRun, TaskRunState
from hub.plugin.nodes import NodeStorage
from hub.plugin.notices import NewNotice, NoticeStorage
from hub.plugin.portable import PortableStorage

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class DeliveryKey:
    """A delivery key in its scope; unique until it expires."""

    scope: str
    key: str
    body_hash: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Arrival:
    """One event and the executions it starts; or, without an event, executions started by hand.

    One with neither only brings notices.
    """

    executions: tuple[NewExecution, ...] = ()
    """They share ``event``; a trigger of a flow starts one of them at most, two are refused."""
    event: Event | None = None
    delivery: DeliveryKey | None = None
    verdicts: tuple[Verdict, ...] = ()
    dead: str | None = None
    """Why the event is a dead letter, where it is one."""
    ends: Mapping[str, Ends] = field(default_factory=dict)
    """What the executions bring that are born ended, by their ids."""
    waits: bool = False
    """The event waits for a batch of the trigger that it came by."""
    takes: tuple[str, ...] = ()
    """The waiting events that this one takes up: none of them waits from then on."""
    notices: tuple[NewNotice, ...] = ()
    """Notices that are owed from then on: stored with it, or not at all."""


@dataclass(frozen=True, slots=True)
class TriggerMove:
    """A trigger's new state, stored only if it still stands at ``expected`` (0: nothing stored yet)."""

    key: TriggerKey
    state: Mapping[str, Any]
    expected: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of one arrival."""

    receipt: Receipt
    claims: tuple[Claim, ...] = ()
    """The executions that were born claimed."""
    waiting: int = 0
    """How many may run but were not claimed."""
    born: Mapping[str, ExecutionState] = field(default_factory=dict)
    """The state of each execution that was stored, those that ends at birth started among them."""


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of an execution's log."""

    time: datetime
    level: str
    message: str
    path: str = ""
    attempt: int = 0
    stream: str | None = None
    number: int = 0
    """Its place in the execution's log, from 1; given by the storage."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One step of an execution: what changed, recorded all or nothing under the claim's fence.

    ``state`` None leaves the execution's state. ``release`` gives the claim back; with ``wake_at`` the
    execution may be claimed from then on. A terminal state always releases, and admits the next of its queue.
    """

    execution_id: str
    fence: int
    at: datetime
    task_runs: tuple[TaskRun, ...] = ()
    logs: tuple[LogLine, ...] = ()
    state: ExecutionState | None = None
    outputs: Mapping[str, Any] | None = None
    error: str | None = None
    wake_at: datetime | None = None
    release: bool = False
    progress: bool = False
    """A task run ended: whoever goes down now is no suspect."""
    suspect_start: bool = False
    """A suspect is about to run; counted when its node goes down before it made progress or was released."""
    started_at: datetime | None = None
    """When the execution first ran, where a step says so; the storage keeps the first it hears."""
    waits_for: tuple[str, ...] = ()
    """With ``release``: the executions it waits for. Where one has ended already it may be claimed at once."""
    variables: Mapping[str, Any] | None = None
    """The flow's variables as they were decided for this execution, given with every later claim."""
    arrivals: tuple[Arrival, ...] = ()
    """Events that this step brings, with what they start: stored with it, or not at all."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """What a transition brought: the executions that its end admitted and its events started."""

    claims: tuple[Claim, ...] = ()
    waiting: int = 0
    """How many may run but were not claimed."""
    woken: tuple[str, ...] = ()
    """The claimed execution that waits for this one, where it ended: to be told. One that is not claimed was
    made ready."""
    born: Mapping[str, ExecutionState] = field(default_factory=dict)
    """The state of each execution that its events started."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What a kill did: the execution as it stands, and those (it, its children's children) that a node holds."""

    execution: Execution
    held: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    """Those that it ended at once."""
    woken: tuple[str, ...] = ()
    """The claimed ones that waited for one of them."""
    elsewhere: tuple[str, ...] = ()
    """Of those that are held the ones that another hub holds: it hears of the kill."""


@dataclass(frozen=True, slots=True)
class Restart:
    """How an ended execution is brought back: it has not started, not ended and gave nothing; all else stays."""

    execution_id: str
    at: datetime
    forget: tuple[str, ...] = ()
    """Paths whose task runs are removed, with all below them."""
    reopen: tuple[TaskRun, ...] = ()
    """Task runs that replace the stored ones, deciding values and all."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that changed, as live views need it."""

    topic: str
    """``execution``, ``event`` or ``flow``."""
    id: str
    """An id, or a flow's name."""
    state: str | None = None
    """An execution's state after it."""
    flow: str | None = None
    """The flow it belongs to, ``namespace/id``."""
    parent: str | None = None
    """The execution that waits for it, where a storage of several hubs tells that one has ended."""


@dataclass(frozen=True, slots=True)
class ChangeSet:
    """What one commit changed; ``number`` goes up with each commit."""

    number: int
    at: datetime
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Purged:
    """What a purge removed: ids of executions or events, whose files may go too."""

    ids: tuple[str, ...]
    more: bool = False
    """Whether there is more to remove."""


@dataclass(frozen=True, slots=True)
class TriggerState:
    """A trigger's stored state and its version; version 0 means nothing is stored."""

    state: Mapping[str, Any] = field(default_factory=dict)
    version: int = 0


@dataclass(frozen=True, slots=True)
class ExecutionFilter:
    """Which executions a list shows; None means any."""

    namespace: str | None = None
    flow: str | None = None
    states: tuple[ExecutionState, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    parent: str | None = None
    """Only those that this execution started and waits for."""


@dataclass(frozen=True, slots=True)
class EventFilter:
    """Which events a list shows; None means any."""

    namespace: str | None = None
    flow: str | None = None
    dead: bool | None = None
    """Only dead letters."""


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: where it starts and how long it may be."""

    limit: int = 50
    cursor: str | None = None


@dataclass(frozen=True, slots=True)
class Slice(Generic[Item]):
    """A page of a list's items and where the next page starts; None at the end."""

    items: tuple[Item, ...]
    next_cursor: str | None = None
    total: int | None = None


Ends = Mapping[ExecutionState, Arrival]
"""What an execution brings by ending in a state, for those states that bring anything."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """What a storage is opened with."""

    url: str
    """The settings' URL; its scheme chose the plugin."""
    data_dir: Path
    """The folder that this process has locked."""
    clock: Clock
    queue_limit: int = 10_000
    """How many writes may wait before ``StorageOverloaded`` is raised."""
    settings: Any = None
    """Its plugin's: an instance of the ``settings_model``, None where it has none."""


class Storage(NoticeStorage, NodeStorage, PortableStorage):
    """Keeps flows, events, executions, task runs, logs, trigger states and notices.

    Raises, from every method: ``StorageUnavailable`` when nothing can be stored or read for now,
    ``StorageOverloaded`` when too much is waiting. Nothing was stored then.
    """

    type: ClassVar[str]
    """The plugin's name."""
    schemes: ClassVar[tuple[str, ...]]
    """The URL schemes it answers to, ``("sqlite",)``."""
    single_process: ClassVar[bool] = True
    """One process at a time holds it, so a start takes over all earlier claims at once."""

    @classmethod
    @abstractmethod
    def open(cls, settings: StorageSettings) -> AbstractAsyncContextManager[Storage]:
        """Open it, with its tables brought up to date; close it on the way out, after its last commit."""

    # events and executions

    @abstractmethod
    def accept(
        self,
        arrivals: Sequence[Arrival],
        *,
        at: datetime,
        move: TriggerMove | None = None,
        room: int | None = None,
    ) -> Awaitable[list[Accepted]]:
        """Store events, their executions and a trigger's new state in one transaction.

        Written as a coroutine function, or as one that begins the work and answers a future.

        Admission is decided here: each execution is born CREATED, QUEUED, CANCELLED or FAILED by its queue,
        and CANCELLED when the one that it belongs to is being killed or has ended. At most ``room`` of them
        are born claimed, the first ones; None claims every one that may run. A known delivery key stores
        nothing and answers the first event's receipt, marked ``duplicate``, or ``conflict`` when the body
        differs. A derived execution whose id is known is not stored again. Raises, with nothing of this call
        stored, ``FenceRefused`` when ``move`` does not start from the stored version or an event that an
        arrival takes up does not wait any more, and ``StorageError`` when an event would start a flow twice by
        one trigger, or an id is given that is stored already.
        """

    @abstractmethod
    def record(self, transition: Transition) -> Awaitable[Recorded]:
        """Store one step of an execution. Raises ``FenceRefused``, with nothing of it stored.

        An ``async def`` will do. One that answers a future has begun by then, and spares the hub a task for each.

        A task run that has ended stays as it ended, whatever a later step says of it; with the end of its
        execution every other one ends KILLED.
        """

    @abstractmethod
    def record_soon(self, transition: Transition) -> None:
        """Store one step without waiting; it is stored before any later step of the same execution.

        A lost one does no harm: it may be dropped by a crash or replaced by a later step of the task run.
        """

    @abstractmethod
    async def claim(self, *, limit: int, at: datetime, held: Mapping[str, int] | None = None) -> list[Claim]:
        """Claim up to ``limit`` executions that may run by ``at``.

        Suspects last; of the others each namespace its share, in it the oldest first. ``held`` says how many of
        each namespace the caller moves already: those count, so one that has many waits for one that has few.
        """

    @abstractmethod
    async def next_wake_at(self) -> datetime | None:
        """When the earliest unclaimed execution may be claimed, or None when there is none."""

    @abstractmethod
    async def take_over(self, *, at: datetime) -> int:
        """Release every claim of earlier incarnations; answers how many executions there were among them.

        One that ended no task run under its last claim becomes a suspect.
        """

    @abstractmethod
    async def request_kill(
        self, execution_id: str, *, at: datetime, reason: str, ends: Mapping[str, Ends] | None = None
    ) -> Killed:
        """Mark a claimed execution KILLING; end one that waits KILLED, one that never started CANCELLED.

        The executions that it waits for share its fate, all of them in one transaction. A terminal one is
        left as it is. Ending one admits the next of its queue, unclaimed, and stores what ``ends`` has for it.
        Raises ``NotFound``, and ``Conflict``, with nothing changed, when ``ends`` is given and does not name
        every live one among them.
        """

    @abstractmethod
    async def restart(self, restart: Restart) -> Execution:
        """Bring an ended execution back, unclaimed: CREATED, or QUEUED where its queue is full.

        Raises ``NotFound``, and ``Conflict`` when it has not ended or ended SUCCESS.
        """

    @abstractmethod
    async def execution(self, execution_id: str) -> Execution:
        """One execution with its trigger data. Raises ``NotFound``."""

    @abstractmethod
    async def executions(
        self, filter: ExecutionFilter, page: Page, *, count: bool = False
    ) -> Slice[Execution]:
        """Executions, newest first, without trigger data; ``total`` only with ``count``.

        Raises ``InvalidInput`` for a cursor it did not make.
        """

    @abstractmethod
    async def executions_of_events(
        self, event_ids: Sequence[str], *, with_replays: bool = False
    ) -> dict[str, list[Execution]]:
        """The executions that each event started, oldest first, without trigger data; no key for none.

        One that a batch took up started what the batch did. ``with_replays``: those of the events that
        repeat it too.
        """

    @abstractmethod
    async def task_runs(
        self, execution_id: str, page: Page, *, states: Sequence[TaskRunState] = ()
    ) -> Slice[TaskRun]:
        """Task runs of an execution in the order they were first recorded, those in ``states`` where given."""

    @abstractmethod
    async def scope_task_runs(self, execution_id: str, scope: str) -> dict[str, TaskRun]:
        """The task runs of one loop iteration (``each[3]/``), or of the top level (empty), by path."""

    @abstractmethod
    async def logs(self, execution_id: str, *, after: int = 0, limit: int = 1000) -> list[LogLine]:
        """Log lines with a number above ``after``, in order."""

    @abstractmethod
    async def log_size(self, execution_id: str) -> tuple[int, int]:
        """How many lines an execution's log has, and how many characters their messages."""

    @abstractmethod
    async def event(self, event_id: str) -> StoredEvent:
        """One event. Raises ``NotFound``."""

    @abstractmethod
    async def events(self, filter: EventFilter, page: Page) -> Slice[StoredEvent]:
        """Events, newest first."""

    @abstractmethod
    async def waiting_events(self, key: TriggerKey, page: Page) -> Slice[StoredEvent]:
        """The events of a trigger that wait for a batch, oldest first."""

    @abstractmethod
    async def settle_dead(self, event_id: str) -> None:
        """An event is no dead letter any more; it stays stored. Raises ``NotFound`` when it is none."""

    @abstractmethod
    async def counts(self) -> Mapping[str, int]:
        """How many executions stand in each state that is not terminal, by state name."""

    @abstractmethod
    async def known_deliveries(self, scope: str, keys: Sequence[str], *, at: datetime) -> dict[str, str]:
        """Which of these delivery keys are known in a scope by ``at``, with the events they belong to."""

    # what live views read

    @abstractmethod
    async def last_change(self) -> int:
        """The newest commit's number, 0 when nothing was ever changed."""

    @abstractmethod
    async def changes(self, *, after: int, limit: int = 500) -> tuple[list[ChangeSet], bool]:
        """What was committed after number ``after``, oldest first; and whether nothing in between is missing.

        Numbers follow the order of the commits: whoever has read up to one has missed none before it.
        """

    # retention

    @abstractmethod
    async def purge_executions(
        self, filter: ExecutionFilter, *, limit: int = 500, keep: Sequence[ExecutionFilter] = ()
    ) -> Purged:
        """Remove ended executions that ``filter`` matches (``until`` is about their end) and no ``keep`` does,
        oldest first, with task runs and logs. An execution that a live one waits for stays."""

    @abstractmethod
    async def purge_events(
        self, filter: EventFilter, *, before: datetime, limit: int = 500, keep: Sequence[EventFilter] = ()
    ) -> Purged:
        """Remove events received before a moment, oldest first. A dead letter stays, one that waits for a
        batch does, and one that something came from that is still there: an execution, a replay, its batch."""

    @abstractmethod
    async def purge_rest(self, *, now: datetime, changes_before: datetime) -> bool:
        """Remove delivery keys that have expired and old change sets, and give unused space back, a little at
        a time; answers whether there is more to do."""

    @abstractmethod
    async def existing(self, ids: Sequence[str]) -> set[str]:
        """Which of these ids an execution or event has."""

    # triggers

    @abstractmethod
    async def trigger_states(self) -> dict[TriggerKey, TriggerState]:
        """Every stored trigger state."""

    # flows

    @abstractmethod
    async def put_flow(
        self,
        key: FlowKey,
        *,
        source: str,
        source_hash: str,
        summary: Mapping[str, Any],
        disabled: bool,
        origin: str | None,
        at: datetime,
    ) -> tuple[FlowRecord, bool]:
        """Store a flow; answers it and whether it changed. The same content is no new revision.

        A retired flow comes back. Raises ``Conflict`` when it belongs to another origin that still holds it.
        """

    @abstractmethod
    async def retire_flow(self, key: FlowKey, *, at: datetime) -> None:
        """Take a flow out of use and keep its history. Raises ``NotFound``."""

    @abstractmethod
    async def flows(self) -> list[FlowRecord]:
        """Every flow in use."""

    @abstractmethod
    async def flow(self, key: FlowKey) -> FlowRecord:
        """One flow, retired or not. Raises ``NotFound``."""

    @abstractmethod
    async def flow_source(self, key: FlowKey, revision: int | None = None) -> tuple[int, str]:
        """A revision's number and source, the newest by default. Raises ``NotFound``."""

    @abstractmethod
    async def revisions(self, key: FlowKey) -> list[tuple[int, datetime]]:
        """A flow's revisions, newest first. Raises ``NotFound``."""
