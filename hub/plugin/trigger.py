"""Triggers: sources of events, declared in a flow."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from functools import lru_cache
from typing import Any, ClassVar

from pydantic import BaseModel

from hub.model import jsontext
from hub.model.event import Event
from hub.model.frozen import dataclass
from hub.plugin.component import Component
from hub.plugin.context import Emit, TriggerContext


class Trigger(Component):
    """A source of events.

    ``run`` owns its connection from start to cancellation. A failure is shown and ``run`` is started again
    with back-off. Acknowledge the source only after ``await emit(…)``.
    """

    event_type: ClassVar[str] = ""
    """The CloudEvents type of its events; ``hub.`` and its own type where it says none."""
    Data: ClassVar[type[BaseModel] | None] = None
    """The model of what expressions see as ``trigger``."""

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        """Emit occurrences until cancelled."""
        raise NotImplementedError

    async def prepare(self, ctx: TriggerContext, data: Mapping[str, Any], event_id: str) -> None:
        """Make true what ``data`` says, before an execution that came from it goes on.

        Called whenever such an execution is taken up, after a crash and on a replay too, and whether or not
        the trigger runs; so it is quick and may be called again. ``event_id`` is the event that the execution
        came from, on a replay another one than the first. Raises ``HubError`` when it cannot be made
        true: an execution that has not done anything yet fails with that.
        """

    def sample_data(self, now: datetime) -> Mapping[str, Any] | None:
        """Data as it may bring it, for a test without any; None where only its user can say."""
        return None

    def next_times(self, after: datetime, count: int) -> list[datetime]:
        """The next planned times, for those who have some."""
        return []


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request as a trigger sees it."""

    method: str
    headers: Mapping[str, str]
    """Names in lower case; several values of one name are joined by ", "."""
    query: Mapping[str, str | list[str]]
    """Single values are text, repeated ones a list."""
    body: bytes
    """Without content encoding."""
    raw: bytes = b""
    """As it came over the wire, for signatures: compressed where the sender compressed it."""
    content_type: str = ""
    """The media type without parameters, in lower case."""
    charset: str = "utf-8"


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a trigger answers; a ``body`` that is text is sent as it is, nothing for None, the rest as JSON."""

    status: int
    body: Any
    headers: Mapping[str, str] = field(default_factory=dict)


class EventTrigger(Trigger):
    """A trigger that waits for events of others; it has no task of its own.

    Asked inside the hub's intake for every event whose type fits, so both members are quick and do no I/O.
    """

    @property
    def event_types(self) -> Sequence[str]:
        """The CloudEvents types it wants; ``*`` stands for any text."""
        raise NotImplementedError

    def wants(self, event: Event) -> bool:
        """Whether an event of these types is one for it, before its ``when`` is asked."""
        return True


@lru_cache(maxsize=1000)
def type_pattern(text: str) -> re.Pattern[str]:
    """What an event type is matched with: ``*`` stands for any text, everything else for itself."""
    return re.compile(".*".join(map(re.escape, text.split("*"))), re.DOTALL)


HTTP_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
"""The methods of requests that a trigger may receive."""


class HttpTrigger(Trigger):
    """A trigger that receives requests at ``/api/v1/webhooks/{namespace}/{flow}/{key}``.

    It has no task of its own, unless it ``batches``: then ``run`` makes the batches.
    """

    key: str

    @classmethod
    def batches(cls, properties: Mapping[str, Any]) -> bool:
        """Whether one that is declared so emits events that wait, for ``run`` to take them up together."""
        return False

    def takes(self, method: str) -> bool:
        """Whether a request of this method is for it; several of one key are told apart by this."""
        return True

    def sample(self, data: Any, now: datetime) -> tuple[bytes, dict[str, str]]:
        """A request's body and headers as its sender would send ``data``, signed where it is signed."""
        return jsontext.dump_bytes(data), {"Content-Type": "application/json"}

    async def receive(self, request: HttpRequest, ctx: TriggerContext, emit: Emit) -> HttpAnswer:
        """Answer one request; 202 only after ``emit`` returned."""
        raise NotImplementedError


def collide(one: HttpTrigger, other: HttpTrigger) -> bool:
    """Whether a request may be for both of a flow's triggers, and only the first would ever get it."""
    return one.key == other.key and any(one.takes(method) and other.takes(method) for method in HTTP_METHODS)
