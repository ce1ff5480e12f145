"""Records that cannot be read: raw to the dead letters, while their partition goes on; replayed after a repair."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidInput
from hub.model.event import StoredEvent
from hub.plugin.storage import EventFilter, Page
from hub.testing import Harness
from plugins_core.kafka.records import moment
from tests.services.kafka import KafkaBroker
from tests.support.kafka_hub import data_of, executions, flow, hub_at, running
from tests.support.topics import Topics, headers_of

POISON: Mapping[str, tuple[dict[str, Any], str]] = {
    "value not UTF-8": ({"value": b'{"id": "\xff"}'}, "its value is not JSON"),
    "value not JSON": ({"value": b'{"id": 7'}, "its value is not JSON"),
    "key not UTF-8": ({"value": b"1", "key": b"\xff"}, "its key is not UTF-8"),
    "header not UTF-8": ({"value": b"1", "headers": [("h", b"\xff")]}, 'its header "h" is not UTF-8'),
    "too large": ({"value": b'"' + b"x" * 2000 + b'"'}, "more than maxRecordBytes allows (1,000)"),
    "when fails": ({"value": b'{"other": 1}'}, '"trigger.value" has no "id"'),
}


async def dead_letters(hub: Harness) -> list[StoredEvent]:
    """Oldest first."""
    page = await hub.node.services.storage.events(EventFilter(dead=True), Page(1000))
    return list(reversed(page.items))


@pytest.mark.parametrize("kind", POISON)
async def test_what_cannot_be_read_is_kept_raw_and_the_next_record_runs(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, kind: str
) -> None:
    given, reason = POISON[kind]
    topic = await topics.create()
    await topics.producer.send_and_wait(topic, **given)
    await topics.put(topic, [{"id": 7}])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f'topic: {topic}, maxRecordBytes: 1000, when: "{{{{ trigger.value.id == 7 }}}}"'))
        [good] = await data_of(hub, 1)
        assert good["value"] == {"id": 7}
        [dead] = await dead_letters(hub)
        source = await running(hub)
    assert reason in str(dead.dead)
    data = dead.event.data
    raw = data["raw"]
    assert (data["topic"], data["partition"], data["offset"]) == (topic, 0, 0)
    assert base64.b64decode(raw["value"]) == given["value"]
    assert (base64.b64decode(raw["key"]) if raw["key"] else None) == given.get("key")
    assert [(name, base64.b64decode(value)) for name, value in raw["headers"]] == given.get("headers", [])
    assert (source.taken, source.dead) == (2, 1)
    assert await topics.committed("hub.t.f.k", topic) == 2


async def test_poison_in_a_batch_is_left_out_of_it(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [1, b"no", 3])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 3}}"))
        [data] = await data_of(hub, 1)
        [dead] = await dead_letters(hub)
    assert [one["value"] for one in data["records"]] == [1, 3]
    assert dead.event.data["offset"] == 1


async def test_a_topic_of_dead_letters_gets_them_as_they_came_with_where_from_and_why(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic, graveyard = await topics.create(), await topics.create()
    await topics.producer.send_and_wait(topic, b"no json", key=b"k", headers=[("h", b"1")])
    await topics.put(topic, [{"other": 1}, {"id": 7}])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(
            flow(
                f'topic: {topic}, deadLetter: {{topic: {graveyard}}}, when: "{{{{ trigger.value.id == 7 }}}}"'
            )
        )
        await executions(hub, 1)
        unreadable, unjudged = await topics.read(graveyard, 2)
        kept = await dead_letters(hub)
    assert (unreadable.key, unreadable.value) == (b"k", b"no json")
    headers = headers_of(unreadable)
    assert (headers["h"], headers["hub-topic"], headers["hub-offset"]) == (b"1", topic.encode(), b"0")
    assert b"not JSON" in headers["hub-error"]
    assert unjudged.value == b'{"other": 1}'
    # what the flow could not judge is among the hub's own dead letters as well
    assert [one.event.data["offset"] for one in kept] == [1]


async def test_a_record_is_read_again_once_its_trigger_is_repaired(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [b"plain text"])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await running(hub)
        [dead] = await dead_letters(hub)
        with pytest.raises(
            InvalidInput, match=f"record {topic}/0 offset 0 still cannot be read: its value is not JSON"
        ):
            await hub.node.again.replay_event(dead.event.id)
        assert len(await dead_letters(hub)) == 1
        await hub.put(flow(f"topic: {topic}, value: string"))
        receipt = await hub.node.again.replay_event(dead.event.id)
        ended = await hub.ended(receipt.execution_ids[0])
        assert dict(ended.trigger_data or {})["value"] == "plain text"
        assert await dead_letters(hub) == []


async def test_a_record_is_replayed_with_what_it_lacked(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [b'{"id": 7'], key="k")
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await running(hub)
        [dead] = await dead_letters(hub)
        receipt = await hub.node.again.replay_event(dead.event.id, {"value": {"id": 7}})
        data = dict((await hub.ended(receipt.execution_ids[0])).trigger_data or {})
    assert (data["value"], data["key"], data["offset"]) == ({"id": 7}, "k", 0)
    assert "raw" not in data


async def test_a_tombstone_is_a_record_without_a_value(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [None], key="k")
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        [data] = await data_of(hub, 1)
    assert (data["key"], data["value"]) == ("k", None)


async def test_bytes_are_shown_in_base64(tmp_path: Path, broker: KafkaBroker, topics: Topics) -> None:
    topic = await topics.create()
    await topics.producer.send_and_wait(topic, b"\xff\x00", key=b'{"a": 1}')
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, value: bytes, key: json"))
        [data] = await data_of(hub, 1)
    assert (base64.b64decode(data["value"]), data["key"]) == (b"\xff\x00", {"a": 1})


def test_a_timestamp_may_be_anything() -> None:
    """A broker may take what no clock can show."""
    assert moment(2**62) == "9999-12-31T23:59:59.000Z"
    assert moment(-1) == moment(0) == "1970-01-01T00:00:00.000Z"
