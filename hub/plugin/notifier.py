"""Notifiers: ways to tell people, each under a name in ``notifiers:`` of ``hub.yaml``.

The engine hands over what is owed, bounds the time it takes and tries again what failed; a notifier sends one
notification, and says by how it ends what became of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from pydantic import Field

from hub.model.ids import FlowKey
from hub.plugin.component import Component
from hub.plugin.fields import Duration, Static
from hub.plugin.outcomes import Outcome

T = TypeVar("T")

_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
RETRY_SCHEDULE = (
    5 * _SECOND,
    5 * _MINUTE,
    30 * _MINUTE,
    2 * _HOUR,
    5 * _HOUR,
    10 * _HOUR,
    14 * _HOUR,
    20 * _HOUR,
    24 * _HOUR,
)
"""The delays after the first attempt that Standard Webhooks proposes: ten attempts in a little over three days."""


class Gone(Outcome):
    """The receiver wants nothing any more: its notifier is disabled until somebody retries one of its notices."""

    default_reason = "the receiver wants nothing any more"


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file of the file store that goes with a notification."""

    name: str
    uri: str
    """See ``NotifierContext.file``."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What to tell."""

    id: str
    """The same however often it is sent: receivers may know a repeat by it. It holds no dot."""
    subject: str
    """One line."""
    message: str
    at: datetime
    """When it was first owed."""
    html: str | None = None
    level: str = "INFO"
    """How important it is: DEBUG, INFO, WARN or ERROR."""
    attachments: tuple[Attachment, ...] = ()
    flow: FlowKey | None = None
    execution_id: str | None = None
    state: str | None = None
    """How the execution ended, where its end is what is told."""
    url: str | None = None
    """Where to read more."""
    parts: tuple[Notification, ...] = ()
    """The notifications it is made of, where several go out as one."""


class NotifierContext(ABC):
    """What a notifier is given."""

    name: str
    """The notifier's name in ``hub.yaml``."""
    attempt: int
    """Counts from 1."""
    progress: Mapping[str, Any]
    """What the attempt before got done: the ``outputs`` it raised its outcome with; empty at first."""
    settings: Any
    """This plugin's settings: an instance of its ``settings_model``, None where it has none."""

    @abstractmethod
    def now(self) -> datetime:
        """The present moment in UTC."""

    @abstractmethod
    async def secret(self, name: str) -> str:
        """A secret's value. Raises ``NotFound``."""

    @abstractmethod
    async def file(self, uri: str) -> Path:
        """A local file with an attachment's content, to be read and never changed. Raises ``NotFound``."""

    @abstractmethod
    async def shared(self, key: str, open: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """One session or connection for all notifiers of a plugin; closed when the hub stops."""


class Notifier(Component):
    """A way to tell people.

    An instance lives for one attempt, its fields already rendered; an expression there may use ``secret()``
    and nothing of a flow or an event.
    """

    at_once: ClassVar[int] = 4
    """How many notifications of one name are sent side by side."""

    timeout: Static[Duration] = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=10),
        description="How long one attempt may take.",
    )
    schedule: Static[list[Duration]] = Field(
        list(RETRY_SCHEDULE),
        max_length=100,
        description="The delays between attempts, one after another; given up after the last.",
    )

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        """Send it; returning means that the receiver has it.

        Raise ``Fail`` for what would fail again, ``Gone`` where the receiver wants nothing any more,
        ``Retry(after=…)`` where it says when; any other error is tried again by the schedule. An outcome's
        ``outputs`` are given to the next attempt as ``ctx.progress``.
        """
        raise NotImplementedError
