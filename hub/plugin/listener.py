"""Listeners: who is told of everything that happens in a hub, without being able to hold it up.

News are told once they are stored. They are no store themselves: a listener that is too slow misses some, and
one that has to miss none asks the API for what it missed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeAlias

from hub.model.event import Verdict
from hub.model.execution import ExecutionState
from hub.model.ids import FlowKey
from hub.model.task_run import TaskRunState


@dataclass(frozen=True, slots=True)
class EventAccepted:
    """An event was stored, with what it started; its data is behind its id."""

    id: str
    source: str
    type: str
    time: datetime
    subject: str | None = None
    flow: FlowKey | None = None
    """The flow that it came by; None from outside."""
    trigger: str | None = None
    execution_ids: tuple[str, ...] = ()
    """The executions that it started."""
    verdicts: tuple[Verdict, ...] = ()
    """Why other triggers did not start their flows."""
    dead: str | None = None
    """Why it is a dead letter, where it is one."""
    depth: int = 0
    replay_of: str | None = None


@dataclass(frozen=True, slots=True)
class ExecutionChanged:
    """An execution stands otherwise: it was born, runs, waits, is being killed, has ended, was restarted.

    One that ends at once may never be told of as ``RUNNING``.
    """

    id: str
    flow: FlowKey
    state: ExecutionState
    at: datetime
    trigger: str | None = None
    event_id: str | None = None
    """The event that started it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None
    """Why it ended, where it ended badly."""


@dataclass(frozen=True, slots=True)
class TaskRunEnded:
    """A task of an execution has ended, after its last attempt; its outputs are behind its path."""

    execution_id: str
    flow: FlowKey
    path: str
    task: str
    type: str
    state: TaskRunState
    attempts: int
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None = None


News: TypeAlias = EventAccepted | ExecutionChanged | TaskRunEnded


class NewsStream(Protocol):
    """The news of one listener, in the order in which they were told; it ends when the hub stops."""

    @property
    def missed(self) -> int:
        """How many gave way because this listener was too slow, since the hub started."""

    def __aiter__(self) -> AsyncIterator[News]: ...


class ListenerContext(ABC):
    """What a listener is given."""

    settings: Any
    """This plugin's settings: an instance of its ``settings_model``, None where it has none."""

    @abstractmethod
    async def secret(self, name: str) -> str:
        """A secret's value. Raises ``NotFound``."""

    @abstractmethod
    def log(self, level: str, message: str, **fields: Any) -> None:
        """Write to the hub's log."""


class Listener(ABC):
    """Is told what happens: events, executions, tasks.

    ``run`` owns its connection from start to cancellation, in a thread and an event loop of its own: what
    blocks in it blocks nobody else. A failure is shown and ``run`` is started again with back-off.
    """

    wants: ClassVar[tuple[type[News], ...]] = (EventAccepted, ExecutionChanged, TaskRunEnded)
    """The kinds of news it is told."""
    type: ClassVar[str]
    """The listener's name, ``<plugin>.<name>`` or the plugin's name."""
    queue_size: ClassVar[int] = 1000
    """How many news wait for it; of more the oldest give way, and are counted."""

    @abstractmethod
    async def run(self, ctx: ListenerContext, news: NewsStream) -> None:
        """Take news until there are no more: ``async for one in news``."""
