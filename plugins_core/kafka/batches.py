"""Make events of records: one of each, or one of a batch; what cannot be read becomes a dead letter.

Called by a lane with records of one partition, in order. A batch beyond 64 KiB is put into the file store as JSON
lines, flushed before its event names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hub.plugin import Occurrence, TriggerContext, jsontext, new_id
from plugins_core.kafka.records import Reading, Record, Unreadable, dead, moment, order_key, time_of

if TYPE_CHECKING:
    from plugins_core.kafka.trigger import Messages, Order

_LARGEST_INLINE = 64 * 1024
_OWN = "hub."


@dataclass(slots=True)
class Made:
    """The events of some records, and those records that could not be read, with the reason."""

    occurrences: list[Occurrence] = field(default_factory=list)
    unreadable: list[tuple[Record, str]] = field(default_factory=list)
    of: list[Record] = field(default_factory=list)
    """The record of each event, where each has one."""


def together(made: Sequence[Made]) -> Made:
    """What is made of batches that follow each other, or of one piece of whatever kind."""
    if len(made) == 1:
        return made[0]
    return Made(
        [occurrence for one in made for occurrence in one.occurrences],
        [unreadable for one in made for unreadable in one.unreadable],
    )


async def events_of(records: Sequence[Record], trigger: Messages, ctx: TriggerContext) -> Made:
    """The events that records of one partition are."""
    made = Made()
    if trigger.batch is not None:
        await _batch(records, trigger, ctx, made)
    else:
        _each(records, trigger.reading, trigger.ordered_by, made)
    return made


def _each(records: Sequence[Record], reading: Reading, order: Order, made: Made) -> None:
    by_partition = order == "partition"
    for record in records:
        try:
            data = reading.data(record)
        except Unreadable as error:
            made.unreadable.append((record, str(error)))
            continue
        line = f"{record.topic}/{record.partition}" if by_partition else None
        if order == "key":
            line = order_key(record)
        made.occurrences.append(_occurrence(record, data, line))
        made.of.append(record)


def _occurrence(record: Record, data: dict[str, Any], order: str | None) -> Occurrence:
    def raw() -> dict[str, Any]:
        return dead(record, "what the flow says of it failed")

    cloud = data.get("cloudEvent")
    type, subject = (cloud.get("type"), cloud.get("subject")) if cloud is not None else (None, None)
    is_own = not isinstance(type, str) or type.startswith(_OWN)
    return Occurrence(
        data,
        type=None if is_own else type,
        subject=subject if isinstance(subject, str) else None,
        time=time_of(record.timestamp) if record.timestamp > 0 else None,
        raw=raw,
        order=order,
    )


async def _batch(records: Sequence[Record], trigger: Messages, ctx: TriggerContext, made: Made) -> None:
    lines, made.unreadable = trigger.reading.lines(records)
    count = len(records) - len(made.unreadable)
    if not count:
        return
    left_out = {record.offset for record, _ in made.unreadable}
    first = next(record for record in records if record.offset not in left_out)
    last = next(record for record in reversed(records) if record.offset not in left_out)
    event_id = new_id()
    data: dict[str, Any] = {
        "records": [],
        "count": count,
        "topic": first.topic,
        "partition": first.partition,
        "offset": first.offset,
        "lastOffset": last.offset,
        "timestamp": moment(first.timestamp),
        "uri": None,
    }
    if len(lines) <= _LARGEST_INLINE:
        data["records"] = [jsontext.loads(line) for line in lines.splitlines()]
    else:
        data["uri"] = await ctx.files(event_id).put("records.jsonl", lines)
    order = f"{first.topic}/{first.partition}" if trigger.ordered_by == "partition" else None
    made.occurrences.append(Occurrence(data, id=event_id, order=order))


def dead_letter(record: Record, reason: str) -> Occurrence:
    """The hub's own dead letter of a record that cannot be read."""
    time = time_of(record.timestamp) if record.timestamp > 0 else None
    return Occurrence(dead(record, reason), time=time, dead=reason)
