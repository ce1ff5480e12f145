"""Flows: what a YAML file declares, as frozen data.

``config`` builds these from text; expressions inside them are still text. What a component's fields mean is
the component's own business.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from hub.model.execution import QueueBehavior
from hub.model.ids import FlowKey


class InputType(StrEnum):
    """The types an input may have."""

    STRING = "STRING"
    INT = "INT"
    FLOAT = "FLOAT"
    BOOLEAN = "BOOLEAN"
    DATE = "DATE"
    DATETIME = "DATETIME"
    DURATION = "DURATION"
    JSON = "JSON"
    SELECT = "SELECT"


class RetryType(StrEnum):
    """How the delay between attempts grows."""

    CONSTANT = "constant"
    EXPONENTIAL = "exponential"
    RANDOM = "random"


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """When a failed attempt is tried again.

    ``interval`` is the first delay (the shortest one for ``random``); ``max_interval`` bounds every delay.
    """

    type: RetryType = RetryType.CONSTANT
    interval: timedelta = timedelta(seconds=1)
    max_interval: timedelta | None = None
    max_attempts: int | None = None
    max_duration: timedelta | None = None
    delay_factor: float = 2.0
    jitter: bool = False
    warning_on_retry: bool = False

    def delay_after(self, attempt: int) -> timedelta:
        """The delay after the failed attempt number ``attempt``, which counts from 1."""
        longest = self.max_interval
        if self.type is RetryType.RANDOM:
            low = self.interval.total_seconds()
            high = (longest or self.interval).total_seconds()
            return timedelta(seconds=random.uniform(min(low, high), max(low, high)))
        delay = self.interval
        if self.type is RetryType.EXPONENTIAL:
            # cap the exponent: 2.0 ** 1000 overflows a timedelta long before anybody waits for it
            ceiling = (longest or timedelta(days=365)).total_seconds()
            seconds = self.interval.total_seconds()
            for _ in range(attempt - 1):
                seconds = min(seconds * self.delay_factor, ceiling)
                if seconds >= ceiling:
                    break
            delay = timedelta(seconds=seconds)
        if self.jitter:
            # full jitter below keeps the growth above: between half and the whole of the delay
            delay = delay * random.uniform(0.5, 1.0)
        return min(delay, longest) if longest is not None else delay

    def next_attempt_at(self, *, attempt: int, first_at: datetime, failed_at: datetime) -> datetime | None:
        """When to try again, or None when the policy is used up."""
        if self.max_attempts is not None and attempt >= self.max_attempts:
            return None
        planned = failed_at + self.delay_after(attempt)
        if self.max_duration is not None and planned > first_at + self.max_duration:
            return None
        return planned


@dataclass(frozen=True, slots=True)
class TaskDeclaration:
    """One task as the flow declares it.

    ``properties`` are the component's own fields as written, without the common ones; ``children`` are the
    tasks under a group's property (``tasks``, ``then``, ``else``).
    """

    id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    """The component's fields as they are written, by their YAML names; expressions are still text."""
    children: Mapping[str, tuple[TaskDeclaration, ...]] = field(default_factory=dict)
    when: Any = None
    """The guard as it is written; None where there is none."""
    retry: RetryPolicy | None = None
    timeout: Any = None
    """How long an attempt may take, as it is written: a duration or an expression."""
    allow_failure: bool = False
    description: str | None = None
    disabled: bool = False

    def walk(self) -> Iterator[TaskDeclaration]:
        """This task and every task below it."""
        yield self
        for children in self.children.values():
            for child in children:
                yield from child.walk()


@dataclass(frozen=True, slots=True)
class TriggerDeclaration:
    """One trigger as the flow declares it."""

    id: str
    type: str
    properties: Mapping[str, Any] = field(default_factory=dict)
    when: Any = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    description: str | None = None
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class InputDeclaration:
    """One input of a flow."""

    id: str
    type: InputType
    required: bool = True
    defaults: Any = None
    description: str | None = None
    values: tuple[str, ...] = ()
    """What a SELECT chooses from."""


@dataclass(frozen=True, slots=True)
class OutputDeclaration:
    """One output of a flow."""

    id: str
    type: InputType
    value: Any
    description: str | None = None


@dataclass(frozen=True, slots=True)
class Concurrency:
    """At most ``limit`` executions of a flow, or of one key of it, at a time."""

    limit: int
    key: Any = None
    behavior: QueueBehavior = QueueBehavior.QUEUE


@dataclass(frozen=True, slots=True)
class NoticeTemplate:
    """The texts of a notice, as written; None says it in the hub's own words."""

    subject: str | None = None
    message: str | None = None
    html: str | None = None


@dataclass(frozen=True, slots=True)
class NotifyRule:
    """Who is told of an execution's end."""

    states: frozenset[str]
    to: tuple[str, ...]
    """Names of notifiers."""
    template: NoticeTemplate = field(default_factory=NoticeTemplate)
    throttle: timedelta | None = None
    digest: timedelta | None = None
    namespace: str | None = None
    """With the hub's own rules: what it is about; None means all."""
    flow: str | None = None


@dataclass(frozen=True, slots=True)
class Flow:
    """A flow as its source declares it."""

    id: str
    namespace: str
    tasks: tuple[TaskDeclaration, ...]
    description: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    disabled: bool = False
    inputs: tuple[InputDeclaration, ...] = ()
    variables: Mapping[str, Any] = field(default_factory=dict)
    concurrency: Concurrency | None = None
    timeout: timedelta | None = None
    """How long its tasks may take; ``errors`` and ``finally`` are not among them."""
    triggers: tuple[TriggerDeclaration, ...] = ()
    errors: tuple[TaskDeclaration, ...] = ()
    finally_: tuple[TaskDeclaration, ...] = ()
    outputs: tuple[OutputDeclaration, ...] = ()
    notify: tuple[NotifyRule, ...] = ()

    @property
    def key(self) -> FlowKey:
        return FlowKey(self.namespace, self.id)

    def walk(self) -> Iterator[TaskDeclaration]:
        """Every task, groups before their children, in file order."""
        for task in (*self.tasks, *self.errors, *self.finally_):
            yield from task.walk()


@dataclass(frozen=True, slots=True)
class FlowRecord:
    """A stored flow: its newest revision and where it comes from."""

    key: FlowKey
    revision: int
    source_hash: str
    origin: str | None
    """The file it belongs to, or None for one that came through the API."""
    disabled: bool
    summary: Mapping[str, Any]
    """What must be known without reading the source: its triggers, labels and description."""
    updated_at: datetime
    retired_at: datetime | None = None
