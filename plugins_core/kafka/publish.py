"""The task ``kafka.publish``: one record, a list of them, or a file of JSON lines."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, Field, model_validator

from hub.plugin import Fail, Failed, HubError, Model, Task, TaskContext, iso, jsontext
from plugins_core.kafka.client import Unreachable
from plugins_core.kafka.producer import Producer, ToSend, shared_producer
from plugins_core.kafka.settings import DEFAULT, connection_to
from plugins_core.kafka.trigger import moment_of

_OF_RECORD = ("key", "value", "headers", "partition", "timestamp")
_IGNORED = ("topic", "offset", "cloudEvent")
"""What a record of a batch has besides, which says where it came from."""
_AT_A_TIME = 5_000


class CloudEventOut(Model):
    """What makes a record a CloudEvent in Kafka's binary mode."""

    type: str = Field(min_length=1, description="The event's type.")
    source: str | None = Field(None, description="Where it comes from; the flow unless set.")
    subject: str | None = Field(None, description="What it is about.")


class Placed(BaseModel):
    """What went to one partition."""

    first: int = Field(description="The lowest offset.")
    last: int = Field(description="The highest offset.")
    count: int = Field(description="How many records.")


class Publish(Task):
    """Publish records to a Kafka topic: one, a list, or a file of JSON lines."""

    type: ClassVar[str] = "kafka.publish"
    examples: ClassVar[tuple[str, ...]] = (
        'id: send\ntype: kafka.publish\ntopic: orders\nkey: "{{ inputs.name }}"\nvalue: {name: "{{ inputs.name }}"}',
        'id: several\ntype: kafka.publish\ntopic: orders\nrecords: "{{ trigger.body }}"',
        'id: all\ntype: kafka.publish\ntopic: orders\nfrom: "{{ trigger.body.uri }}"',
        'id: tell\ntype: kafka.publish\ntopic: events\nvalue: "{{ trigger.body }}"\n'
        "cloudEvent: {type: com.example.order.created}",
    )

    topic: str = Field(min_length=1, description="Topic to write to.")
    cluster: str = Field(DEFAULT, description="Which cluster of the settings: `plugins.kafka.clusters`.")
    properties: dict[str, str] | None = Field(
        None,
        description="A cluster by Kafka's own names (`bootstrap.servers`), in place of one of the settings.",
    )
    value: Any = Field(
        None, description="Record value; anything but text is sent as JSON, null as a tombstone."
    )
    key: Any = Field(None, description="Record key; anything but text is sent as JSON.")
    headers: dict[str, Any] = Field({}, description="Headers by name; a list sends one several times.")
    partition: int | None = Field(None, ge=0, description="The partition; chosen by the key unless set.")
    timestamp: str | int | None = Field(
        None, description="The timestamp: ISO 8601, or milliseconds since 1970; now unless set."
    )
    records: list[Any] | None = Field(
        None,
        description="Several records in place of one, each a mapping of `value key headers partition timestamp`; what"
        " is set beside it counts for those that do not say.",
    )
    from_: str | None = Field(
        None,
        alias="from",
        description="A file with one such record as JSON on each line, in place of one record.",
    )
    cloud_event: CloudEventOut | None = Field(
        None, description="Make each record a CloudEvent, in binary mode."
    )
    traceparent: str | None = Field(
        None, description="The W3C trace context to go on with; a trace of the execution's own unless set."
    )

    class Output(BaseModel):
        count: int = Field(description="How many records the broker has taken.")
        partition: int | None = Field(description="The partition of the record, where it was one.")
        offset: int | None = Field(description="Its offset.")
        partitions: dict[str, Placed] = Field(description="By partition: the offsets, and how many.")

    @model_validator(mode="after")
    def _says_once_what_to_send(self) -> Publish:
        given = [self.records is not None, self.from_ is not None, "value" in self.model_fields_set]
        if sum(given) > 1:
            raise ValueError("expected one of value, records and from")
        return self

    async def run(self, ctx: TaskContext) -> Output:
        try:
            connection = await connection_to(self.cluster, self.properties, ctx.settings, ctx.secret)
            producer = await shared_producer(ctx, connection)
            return await self._send(ctx, producer)
        except Unreachable as error:
            raise Failed(error.message) from error
        except HubError as error:
            raise Fail(error.message) from error

    async def _send(self, ctx: TaskContext, producer: Producer) -> Output:
        placed: dict[int, Placed] = {}
        only: tuple[int, int] | None = None
        count = 0
        for part in _parts(await self._given(ctx), _AT_A_TIME):
            records = [self._record(ctx, one, count + number) for number, one in enumerate(part)]
            for partition, offset in await producer.send(records):
                count += 1
                only = (partition, offset)
                _note(placed, partition, offset)
        by_name = {str(partition): one for partition, one in sorted(placed.items())}
        one = only if count == 1 and only is not None else (None, None)
        return self.Output(count=count, partition=one[0], offset=one[1], partitions=by_name)

    async def _given(self, ctx: TaskContext) -> Iterator[Any]:
        if self.from_ is not None:
            return _lines(await ctx.files.path(self.from_))
        if self.records is not None:
            return iter(self.records)
        return iter([{"value": self.value}])

    def _record(self, ctx: TaskContext, given: Any, number: int) -> ToSend:
        what = f"record {number + 1}"
        if not isinstance(given, Mapping):
            raise Fail(f"{what}: expected a mapping with value, got {type(given).__name__}")
        unknown = [name for name in given if name not in _OF_RECORD and name not in _IGNORED]
        if unknown:
            raise Fail(f'{what}: unknown name "{unknown[0]}"; there are {", ".join(_OF_RECORD)}')
        headers = {**self.headers, **(given.get("headers") or {})}
        headers = {**self._cloud(ctx, number), **headers}
        headers.setdefault("traceparent", _traceparent(self.traceparent, ctx.execution_id))
        partition = (
            given.get("partition", self.partition)
            if self.records is None and self.from_ is None
            else self.partition
        )
        return ToSend(
            self.topic,
            _bytes(given.get("value", self.value)),
            _bytes(given.get("key", self.key)),
            list(_headers(headers)),
            partition,
            _stamp(given.get("timestamp", self.timestamp), what),
        )

    def _cloud(self, ctx: TaskContext, number: int) -> dict[str, Any]:
        """The headers of a CloudEvent; its id is the same in every attempt."""
        cloud = self.cloud_event
        if cloud is None:
            return {}
        found = {
            "ce_specversion": "1.0",
            "ce_id": f"{ctx.idempotency_key}-{number}" if number else ctx.idempotency_key,
            "ce_source": cloud.source or f"/{ctx.flow.namespace}/{ctx.flow.id}",
            "ce_type": cloud.type,
            "ce_time": iso(ctx.now()),
            "content-type": "application/json",
        }
        return found if cloud.subject is None else {**found, "ce_subject": cloud.subject}


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                try:
                    yield jsontext.loads_bounded(line)
                except ValueError as error:
                    raise Fail(f"line {number} is not JSON: {error}") from error


def _parts(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    part: list[Any] = []
    for item in items:
        part.append(item)
        if len(part) == size:
            yield part
            part = []
    if part:
        yield part


def _note(placed: dict[int, Placed], partition: int, offset: int) -> None:
    known = placed.get(partition)
    if known is None:
        placed[partition] = Placed(first=offset, last=offset, count=1)
    else:
        known.first, known.last = min(known.first, offset), max(known.last, offset)
        known.count += 1


def _bytes(value: Any) -> bytes | None:
    """Text and bytes as they are, null as nothing, the rest as JSON."""
    if value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else jsontext.dump_bytes(value)


def _headers(given: Mapping[str, Any]) -> Iterator[tuple[str, bytes | None]]:
    for name, value in given.items():
        for one in value if isinstance(value, list) else [value]:
            yield name, _bytes(one)


def _stamp(given: Any, what: str) -> int | None:
    """A timestamp in milliseconds."""
    if given is None or (isinstance(given, int) and not isinstance(given, bool)):
        return given
    try:
        return int(moment_of(str(given)).timestamp() * 1000)
    except ValueError:
        raise Fail(f'{what}: timestamp is ISO 8601 or milliseconds, got "{str(given)[:40]}"') from None


def _traceparent(given: str | None, execution_id: str) -> str:
    """A trace context with a span of its own: in the trace that is given, else in one of the execution's."""
    parts = (given or "").split("-")
    if len(parts) >= 4 and len(parts[1]) == 32:
        return f"{parts[0]}-{parts[1]}-{secrets.token_hex(8)}-{parts[3]}"
    return f"00-{hashlib.sha256(execution_id.encode()).hexdigest()[:32]}-{secrets.token_hex(8)}-01"
