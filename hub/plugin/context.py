"""What a running component is given.

``ctx`` is a component's whole world: time, log, secrets, files and, for groups, running their children.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from hub.model.event import Occurrence, Receipt
from hub.model.execution import Execution, ExecutionState
from hub.model.flow import TaskDeclaration
from hub.model.frozen import dataclass
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.notifier import Attachment

T = TypeVar("T")


class TaskLogger(ABC):
    """The execution's log. Lines are masked, stored in chunks and shown live."""

    @abstractmethod
    def log(self, level: str, message: str, *, stream: str | None = None) -> None:
        """Add a line; ``level`` is TRACE, DEBUG, INFO, WARN or ERROR."""

    def debug(self, message: str) -> None:
        """Add a line for whoever looks into it."""
        self.log("DEBUG", message)

    def info(self, message: str) -> None:
        """Add a line about what it does."""
        self.log("INFO", message)

    def warning(self, message: str) -> None:
        """Add a line about what may be wrong."""
        self.log("WARN", message)

    def error(self, message: str) -> None:
        """Add a line about what is wrong."""
        self.log("ERROR", message)


@dataclass(frozen=True, slots=True)
class Branch:
    """One way of a group: its tasks, its iteration number in a loop and the names its expressions gain."""

    tasks: Sequence[TaskDeclaration]
    index: int | None = None
    names: Mapping[str, Any] = field(default_factory=dict)
    """What expressions in it see besides what they see anyway: ``{"item": …}`` in a loop."""


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """How a group's branches ended."""

    done: int = 0
    """How many branches ended, failed ones included."""
    failed: int = 0
    warned: int = 0
    error: str | None = None
    """The first failure's reason."""


class TaskFiles(ABC):
    """The file store as one execution, or one event, sees it. A file is named by the URI that ``put`` gave it."""

    @abstractmethod
    async def put(self, name: str, content: bytes | Path | BinaryIO) -> str:
        """Store bytes, a file, or the rest of an open one; returns the URI once it is flushed."""

    @abstractmethod
    async def get(self, uri: str) -> bytes:
        """The content of a small file. Raises ``NotFound``."""

    @abstractmethod
    async def path(self, uri: str) -> Path:
        """A local file with the content, to be read and never changed. Raises ``NotFound``."""


class BlockingCalls(ABC):
    """What a task whose ``run`` is a plain ``def`` calls from its thread; each waits for its answer.

    Raises ``Fail`` once the task run has to stop.
    """

    @abstractmethod
    def secret(self, name: str) -> str:
        """See ``TaskContext.secret``."""

    @abstractmethod
    def decide(self, name: str, make: Callable[[], T]) -> T:
        """See ``TaskContext.decide``."""

    @abstractmethod
    def emit(self, occurrence: Occurrence) -> Receipt:
        """See ``TaskContext.emit``."""

    @abstractmethod
    def start(
        self,
        flow: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str] | None = None,
        revision: int | None = None,
        together: bool = True,
    ) -> str:
        """See ``TaskContext.start``."""

    @abstractmethod
    def execution(self, execution_id: str) -> Execution:
        """See ``TaskContext.execution``."""

    @abstractmethod
    def working_folder(self) -> AbstractContextManager[Path]:
        """See ``TaskContext.working_folder``."""


class TaskContext(ABC):
    """What ``Task.run`` is given.

    Where ``run`` is a plain ``def``, in a thread, it uses ``logger``, ``now``, ``place``, ``killed`` and
    ``blocking``; the coroutines are for ``async def``.
    """

    execution_id: str
    task_run_id: str
    """Unique and the same for every attempt of this task in this execution."""
    idempotency_key: str
    """Stable over attempts, crashes and restarts; hand it to services that take one."""
    flow: FlowKey
    task_id: str
    path: str
    attempt: int
    """Counts from 1."""
    settings: Any
    """This plugin's settings: an instance of its ``settings_model``, None where it has none."""
    process_token: str
    """What a started process carries as ``HUB_TASK_TOKEN``, so that its whole tree can be found again."""
    logger: TaskLogger
    """May be used from any thread."""
    files: TaskFiles
    killed: threading.Event
    """Set when the task run has to stop: killed, out of time, or handed back. A coroutine is cancelled anyway; a
    thread has to look at it now and then, or wait on it, and has 5 seconds to return."""
    blocking: BlockingCalls

    @abstractmethod
    def now(self) -> datetime:
        """The present moment in UTC."""

    @abstractmethod
    async def secret(self, name: str) -> str:
        """A secret's value. Raises ``NotFound``."""

    @abstractmethod
    async def decide(self, name: str, make: Callable[[], T]) -> T:
        """A value that decides the path: made once, stored before use, read on every later walk.

        The value is plain JSON data.
        """

    @abstractmethod
    async def run(self, tasks: Sequence[TaskDeclaration]) -> GroupOutcome:
        """Run child tasks one after another; stops after the first that fails.

        One group at a time: what is to run side by side is given to ``run_branches``.
        """

    @abstractmethod
    async def run_branches(
        self, branches: Iterable[Branch], *, count: int | None = None, limit: int | None = None
    ) -> GroupOutcome:
        """Run branches side by side, at most ``limit`` at a time; starts no new one after a failure.

        Branches are taken from the iterable when they start, so a long loop costs no memory.
        """

    @abstractmethod
    async def emit(self, occurrence: Occurrence) -> Receipt:
        """Emit an event; once it is stored it is there once, however often this task run is tried again."""

    @abstractmethod
    async def start(
        self,
        flow: FlowKey,
        *,
        inputs: Mapping[str, Any],
        labels: Mapping[str, str] | None = None,
        revision: int | None = None,
        together: bool = True,
    ) -> str:
        """Start a flow, once per attempt of this task run (a crash begins none); answers the execution's id.

        ``together``: it is killed with this one, and its end ends ``Wait(execution=…)``. Raises ``NotFound``,
        ``InvalidInput``.
        """

    @abstractmethod
    async def execution(self, execution_id: str) -> Execution:
        """An execution as it stands, its outputs whole. Raises ``NotFound``."""

    @abstractmethod
    def notify(
        self,
        to: str,
        message: str,
        *,
        subject: str | None = None,
        html: str | None = None,
        level: str = "INFO",
        attachments: Sequence[Attachment] = (),
    ) -> None:
        """Owe somebody a notice: stored with the end of this task run, and sent after it.

        ``to`` is a name under ``notifiers:``. An attempt that is tried again owes nothing.
        """

    @abstractmethod
    def place(self, path: str, *, write: bool = False, below: bool = False) -> Path:
        """The path that a flow means, below ``files.roots``. Raises ``Denied``.

        ``write``: it is to be changed. ``below``: so is all that lies in it.
        """

    @abstractmethod
    def working_folder(self) -> AbstractAsyncContextManager[Path]:
        """A fresh folder for this attempt, removed afterwards."""

    @abstractmethod
    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """One producer, watcher or session for all users of a plugin; closed when the hub stops."""


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Where a trigger stands in one part of its source, a partition for one; each part moves by itself.

    It moves only from where it was read: of two who read it the second is refused, on whichever node they are.
    """

    part: str
    state: Mapping[str, Any] = field(default_factory=dict)
    """What the trigger gave with its last move there; empty at first."""
    version: int = 0
    """Goes up with each move; 0 where nothing is stored yet."""

    def moved(self, state: Mapping[str, Any]) -> Bookmark:
        """The same after ``emit(…, state=state, bookmark=self)``."""
        return Bookmark(self.part, state, self.version + 1)


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """How a trigger that reads a source part by part does, for lists and metrics."""

    lags: Mapping[str, int | None] = field(default_factory=dict)
    """The parts that this node reads, and how many records wait in each; None where that is not known."""
    taken: int = 0
    """Records that were stored since the trigger began to run here."""
    dead: int = 0
    """Those of them that are dead letters."""
    committed_at: datetime | None = None
    """When the source was last told what was taken."""
    error: str | None = None
    """What is wrong now; None while all is well."""


class Emit(Protocol):
    """The one door for events: stores them, with the trigger's new state, in one transaction.

    Its return is the acknowledgement: answer 202, commit the offset or claim the file after it.
    """

    async def __call__(
        self,
        occurrences: Sequence[Occurrence] | Occurrence,
        *,
        state: Mapping[str, Any] | None = None,
        bookmark: Bookmark | None = None,
    ) -> list[Receipt]:
        """One receipt per occurrence, in order. With ``bookmark`` the state is that of one part, and moves from
        there or not at all. Raises ``StorageUnavailable``, ``StorageOverloaded``, and ``FenceRefused`` where
        another has moved it: nothing was stored then.
        """
        ...


class EndNews(Protocol):
    """News of executions that have ended: quick, and never trusted to be complete."""

    async def next(self, timeout: float) -> set[str]:
        """The events whose executions have ended since the last call; none after ``timeout`` seconds."""
        ...


@dataclass(frozen=True, slots=True)
class WaitingEvent:
    """A stored event of a trigger that waits for a batch."""

    id: str
    received_at: datetime
    data: Mapping[str, Any]
    """What it brought, whole."""


class WaitingEvents(Protocol):
    """What a trigger emitted with ``Occurrence(…, waits=True)`` and has not taken up yet."""

    async def read(self, *, limit: int, most_bytes: int) -> tuple[list[WaitingEvent], bool]:
        """The oldest of them, and whether more wait; at least one, where any do, however large it is.

        Emitting ``Occurrence(…, takes=ids)`` takes them up, all or none of them, in one transaction with that
        event; it raises ``FenceRefused`` where another was quicker.
        """
        ...

    async def more(self, count: int, *, timeout: float) -> None:
        """Return when about ``count`` more have come since ``read``, or after ``timeout`` seconds."""
        ...


class TriggerContext(ABC):
    """What a trigger is given."""

    key: TriggerKey
    state: Mapping[str, Any]
    """What the last ``emit(…, state=…)`` stored, empty at first."""
    settings: Any
    """This plugin's settings: an instance of its ``settings_model``, None where it has none."""
    enabled_since: datetime
    """Since when this trigger has been enabled, without a gap."""

    @abstractmethod
    def now(self) -> datetime:
        """The present moment in UTC."""

    @abstractmethod
    async def sleep_until(self, moment: datetime) -> None:
        """Return at ``moment``, or earlier when the clock jumps; check the time again."""

    @abstractmethod
    def place(self, path: str, *, write: bool = False, below: bool = False) -> Path:
        """The path that a flow means, below ``files.roots``. Raises ``Denied``.

        ``write``: it is to be changed. ``below``: so is all that lies in it.
        """

    @abstractmethod
    def files(self, event_id: str) -> TaskFiles:
        """The file store for what an event brings: stored first, then emitted as ``Occurrence(…, id=event_id)``.

        What is put goes when the event and its replays go, or after a day where no such event was stored.
        """

    @abstractmethod
    async def known(self, keys: Sequence[str]) -> dict[str, str]:
        """Which of these delivery keys this trigger has used already, with the events they belong to."""

    @abstractmethod
    async def outcomes(self, event_ids: Sequence[str]) -> dict[str, ExecutionState | None]:
        """How the executions of each event, or of its newest replay, ended: the worst of them.

        None while one has not ended; an event that started nothing is left out.
        """

    @abstractmethod
    def ends(self) -> AbstractContextManager[EndNews]:
        """Hear of executions that end, whichever trigger started them, until the block ends."""

    @abstractmethod
    def waiting(self) -> AbstractContextManager[WaitingEvents]:
        """This trigger's events that wait for a batch, and news of more, until the block ends."""

    @abstractmethod
    async def render(self, raw: Any, data: Mapping[str, Any], **names: Any) -> Any:
        """Evaluate a ``Deferred`` field over ``trigger`` = data and more names. Raises ``ExpressionError``."""

    @abstractmethod
    async def result(
        self, execution_id: str, *, timeout: float, early: str | None = None
    ) -> tuple[Execution, Mapping[str, Any] | None]:
        """An execution once it has ended, or as it stands after ``timeout`` seconds or when the hub stops.

        With ``early``: also as soon as a task run of that type has ended, with its outputs.
        """

    @abstractmethod
    async def bookmarks(self) -> dict[str, Bookmark]:
        """Where this trigger stands in each part of its source, read from the storage now."""

    @abstractmethod
    def report(self, status: SourceStatus) -> None:
        """How it does, for lists and metrics; a trigger that goes on trying by itself says so here."""

    @abstractmethod
    def log(self, level: str, message: str, **fields: Any) -> None:
        """A line for the operator."""

    @abstractmethod
    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """One watcher, producer or session for all users of a plugin; closed when the hub stops."""
