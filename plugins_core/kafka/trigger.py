"""The trigger ``kafka.messages``: its fields, and what its events hold. Reading is the reader's business."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from hub.plugin import Duration, Emit, InvalidInput, Model, Trigger, TriggerContext
from plugins_core.kafka.records import Form, Reading, Unreadable, read_again
from plugins_core.kafka.settings import DEFAULT, connection_to

Order = Literal["none", "partition", "key"]


class Batch(Model):
    """When records start the flow together."""

    max_messages: int = Field(500, ge=1, le=100_000, description="As soon as so many are there.")
    max_wait: Duration = Field(
        timedelta(seconds=1),
        gt=timedelta(),
        le=timedelta(hours=1),
        description="As soon as the first of them has waited so long.",
    )
    max_bytes: int = Field(
        8 * 1024 * 1024, ge=1, le=256 * 1024 * 1024, description="As soon as they have so many bytes."
    )


class DeadLetter(Model):
    """Where records go that cannot be read."""

    topic: str = Field(min_length=1, description="The topic, in the same cluster; they go there raw.")


class MessagesData(BaseModel):
    """What expressions see as ``trigger``."""

    model_config = ConfigDict(extra="forbid")

    key: Any = Field(
        None, description="The record's key, read as the trigger's `key` says; null where it has none."
    )
    value: Any = Field(
        None, description="Its value, read as the trigger's `value` says; null for a tombstone."
    )
    headers: dict[str, Any] = Field(
        {}, description="Its headers by name; one that comes several times is a list."
    )
    topic: str = Field("", description="Its topic.")
    partition: int = Field(0, description="Its partition.")
    offset: int = Field(0, description="Its offset; with `batch` the first one.")
    timestamp: str = Field("", description="Its timestamp in UTC, ISO 8601; with `batch` the first one.")
    cloudEvent: dict[str, Any] | None = Field(
        None, description="The attributes of a CloudEvent, where the record is one; `value` is its data."
    )
    records: list[dict[str, Any]] = Field(
        [],
        description="With `batch`, in place of key, value and headers: the records, each with `key value headers topic"
        " partition offset timestamp`; empty beyond 64 KiB.",
    )
    count: int = Field(0, description="With `batch`: how many they are.")
    lastOffset: int = Field(0, description="With `batch`: the offset of the last one.")
    uri: str | None = Field(
        None, description="With `batch`, beyond 64 KiB: the file with one record as JSON on each line."
    )
    error: str | None = Field(None, description="Only in a dead letter: why it could not be read.")
    raw: dict[str, Any] | None = Field(
        None, description="Only in a dead letter: key, value and headers as they came, in base64."
    )


class Messages(Trigger):
    """Start the flow for each record of a Kafka topic, or for batches of them."""

    type: ClassVar[str] = "kafka.messages"
    event_type: ClassVar[str] = "hub.kafka.received"
    # its group gives each partition to one of them
    anywhere: ClassVar[bool] = True
    Data = MessagesData
    examples: ClassVar[tuple[str, ...]] = (
        'id: orders\ntype: kafka.messages\ntopic: orders\nwhen: "{{ trigger.value.total > 100 }}"',
        "id: readings\ntype: kafka.messages\ntopic: readings\nbatch: {maxMessages: 500, maxWait: PT1S}",
        "id: accounts\ntype: kafka.messages\ntopicPattern: 'accounts\\..*'\norderedBy: key\n"
        "deadLetter: {topic: accounts-dead}",
        "id: elsewhere\ntype: kafka.messages\ntopic: orders\nproperties:\n"
        "  bootstrap.servers: kafka.example.org:9093\n  security.protocol: SASL_SSL\n"
        "  sasl.mechanism: SCRAM-SHA-512\n  sasl.username: hub\n  sasl.password: \"{{ secret('KAFKA') }}\"",
    )

    topic: str | None = Field(None, min_length=1, description="The topic to read.")
    topics: list[str] | None = Field(None, min_length=1, description="Several topics, in place of `topic`.")
    topic_pattern: str | None = Field(
        None,
        min_length=1,
        description="A regular expression that whole topic names match, in place of `topic`.",
    )
    cluster: str = Field(DEFAULT, description="Which cluster of the settings: `plugins.kafka.clusters`.")
    properties: dict[str, str] | None = Field(
        None,
        description="A cluster by Kafka's own names (`bootstrap.servers`), in place of one of the settings.",
    )
    group: str | None = Field(
        None, min_length=1, description="The consumer group; `hub.<namespace>.<flow>.<trigger>` unless set."
    )
    from_: str = Field(
        "earliest",
        alias="from",
        description="Where to begin in a partition that nobody of the group has read: `earliest`, `latest` or a moment"
        " (ISO 8601).",
    )
    value: Form = Field("json", description="How values are read; bytes are shown in base64.")
    key: Form = Field("string", description="How keys are read.")
    max_record_bytes: int = Field(
        1024 * 1024, ge=1, le=64 * 1024 * 1024, description="A record with more is a dead letter."
    )
    batch: Batch | None = Field(
        None,
        description="Start the flow once for several records of one partition, which `trigger.records` lists.",
    )
    ordered_by: Order = Field(
        "none",
        description="Whether executions of one partition, or of one key, run one after another; else side by side.",
    )
    dead_letter: DeadLetter | None = Field(
        None, description="Where records go that cannot be read; to the hub's dead letters unless set."
    )

    @field_validator("from_")
    @classmethod
    def _is_a_place(cls, value: str) -> str:
        if value.lower() in ("earliest", "latest"):
            return value.lower()
        if "{{" not in value:
            moment_of(value)
        return value

    @field_validator("topic_pattern")
    @classmethod
    def _is_a_pattern(cls, value: str | None) -> str | None:
        import re

        if value is not None and "{{" not in value:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"it is not a regular expression: {error}") from error
        return value

    @model_validator(mode="after")
    def _names_its_topics_once(self) -> Messages:
        given = [one for one in (self.topic, self.topics, self.topic_pattern) if one is not None]
        if len(given) != 1:
            raise ValueError(
                f"expected one of topic, topics and topicPattern, got {len(given) or 'none'} of them"
            )
        if self.batch is not None and self.ordered_by == "key":
            raise ValueError("a batch holds many keys: orderedBy is partition or none with batch")
        return self

    @classmethod
    def orders(cls, properties: Mapping[str, Any]) -> bool:
        return str(properties.get("orderedBy", "none")).lower() != "none"

    @property
    def reading(self) -> Reading:
        """How its records are read."""
        return Reading(self.key, self.value, self.max_record_bytes)

    @property
    def names(self) -> list[str]:
        """The topics that it names; none where it has a pattern."""
        return self.topics or ([self.topic] if self.topic is not None else [])

    def repaired(self, data: Mapping[str, Any], given: Mapping[str, Any]) -> Mapping[str, Any]:
        if "raw" not in data:
            return {**data, **given}
        try:
            return read_again(data, given, self.reading)
        except Unreadable as error:
            raise InvalidInput(
                f"record {data['topic']}/{data['partition']} offset {data['offset']} still cannot be read: {error}",
                hint="repair the trigger (value: string, say), or give what it lacks: --with '{\"value\": …}'",
            ) from error

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        """Read until cancelled; whatever goes wrong at the cluster is reported and tried again."""
        from plugins_core.kafka.reader import read_for_ever

        async def secret(name: str) -> str:
            return str(await ctx.render(f"{{{{ secret('{name}') }}}}", {}))

        connection = await connection_to(self.cluster, self.properties, ctx.settings, secret)
        await read_for_ever(self, connection, ctx, emit)


def moment_of(text: str) -> datetime:
    """A moment in UTC. Raises ``ValueError``."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f'expected earliest, latest or a moment such as 2026-11-30T08:00:00Z, got "{text[:40]}"'
        ) from None
    return found if found.utcoffset() is not None else found.replace(tzinfo=UTC)
