"""``kafka.publish``: what a flow sends is what a foreign client reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hub.testing import harness
from plugins_core.kafka.publish import Publish
from tests.services.kafka import KafkaBroker
from tests.support.kafka_hub import data_of, flow, hub_at, settings_for
from tests.support.topics import Topics, headers_of


def publishing(fields: str) -> str:
    return f"id: p\nnamespace: t\ntasks:\n  - {{id: a, type: kafka.publish, {fields}}}\n"


async def outputs_of(folder: Path, broker: KafkaBroker, fields: str) -> dict[str, Any]:
    async with hub_at(folder, broker) as hub:
        await hub.put(publishing(fields))
        ended = await hub.run("t/p")
        [run] = (await hub.task_runs(ended.id)).values()
        assert ended.state == "SUCCESS", run.error
        return dict(run.outputs or {})


async def test_one_record_with_all_that_it_may_have(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create(partitions=2)
    outputs = await outputs_of(
        tmp_path,
        broker,
        f"topic: {topic}, key: k, value: {{id: 7}}, headers: {{one: '1', two: [a, b]}}, partition: 1,"
        " timestamp: '2026-01-01T00:00:00Z'",
    )
    [record] = await topics.read(topic, 1)
    assert outputs == {
        "count": 1,
        "partition": 1,
        "offset": 0,
        "partitions": {"1": {"first": 0, "last": 0, "count": 1}},
    }
    assert (record.partition, record.key, json.loads(record.value)) == (1, b"k", {"id": 7})
    assert record.timestamp == 1_767_225_600_000
    assert [(name, value) for name, value in record.headers if name != "traceparent"] == [
        ("one", b"1"), ("two", b"a"), ("two", b"b"),
    ]  # fmt: skip


async def test_text_goes_as_it_is_and_null_is_a_tombstone(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await outputs_of(tmp_path / "a", broker, f"topic: {topic}, value: Grüße")
    await outputs_of(tmp_path / "b", broker, f"topic: {topic}, key: k, value: null")
    text, tombstone = await topics.read(topic, 2)
    assert text.value == "Grüße".encode()
    assert (tombstone.key, tombstone.value) == (b"k", None)


async def test_a_list_of_records_keeps_its_order_and_says_where_they_went(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    outputs = await outputs_of(
        tmp_path, broker, f"topic: {topic}, records: [{{value: 1}}, {{value: 2, key: b}}]"
    )
    assert outputs["partitions"] == {"0": {"first": 0, "last": 1, "count": 2}}
    assert (outputs["count"], outputs["partition"], outputs["offset"]) == (2, None, None)
    assert [(one.key, one.value) for one in await topics.read(topic, 2)] == [(None, b"1"), (b"b", b"2")]


async def test_the_file_of_a_batch_goes_on_to_another_topic(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic, target = await topics.create(), await topics.create()
    await topics.put(topic, [{"n": number, "text": "x" * 1000} for number in range(100)], key="k")
    async with hub_at(tmp_path, broker) as hub:
        task = f"{{id: a, type: kafka.publish, topic: {target}, from: '{{{{ trigger.uri }}}}'}}"
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 100}}", task))
        await data_of(hub, 1)
    found = await topics.read(target, 100)
    assert [json.loads(one.value)["n"] for one in found] == list(range(100))
    assert {one.key for one in found} == {b"k"}


async def test_a_cloud_event_arrives_as_one_and_the_trace_goes_on(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic, target = await topics.create(), await topics.create()
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    await topics.producer.send_and_wait(topic, b'{"id": 7}', headers=[("traceparent", trace.encode())])
    task = (
        f"{{id: a, type: kafka.publish, topic: {target}, value: '{{{{ trigger.value }}}}',"
        " traceparent: '{{ trigger.headers.traceparent }}',"
        " cloudEvent: {type: com.example.made, subject: '{{ trigger.value.id }}'}}"
    )
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}", task))
        await hub.put(flow(f"topic: {target}", id="g"))
        first, second = await data_of(hub, 2)
    [record] = await topics.read(target, 1)
    headers = {name: value.decode() for name, value in headers_of(record).items()}
    assert headers["traceparent"].split("-")[1] == trace.split("-")[1]
    assert headers["traceparent"] != trace
    cloud = second["cloudEvent"]
    assert (cloud["specversion"], cloud["type"], cloud["source"]) == ("1.0", "com.example.made", "/t/f")
    assert (cloud["subject"], cloud["datacontenttype"], second["value"]) == (
        "7",
        "application/json",
        {"id": 7},
    )
    assert "cloudEvent" not in first


async def test_a_structured_cloud_event_is_taken_apart(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    event = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t", "data": {"id": 7}}
    await topics.producer.send_and_wait(
        topic,
        json.dumps(event).encode(),
        headers=[("content-type", b"application/cloudevents+json; charset=utf-8")],
    )
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        [data] = await data_of(hub, 1)
    assert data["value"] == {"id": 7}
    assert data["cloudEvent"] == {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (
            "topic: no-such-topic, value: 1",
            'cluster "default" ({servers}): topic no-such-topic: it does not exist',
        ),
        ("topic: a, records: [1]", "record 1: expected a mapping with value, got int"),
        ("topic: a, records: [{valeu: 1}]", 'record 1: unknown name "valeu"; there are key, value, headers'),
        (
            "topic: a, value: 1, timestamp: soon",
            'record 1: timestamp is ISO 8601 or milliseconds, got "soon"',
        ),
        ("topic: a, value: 1, cluster: other", 'no Kafka cluster "other" in the settings'),
        (
            "topic: a, value: 1, properties: {bootstrap.servers: '127.0.0.1:1'}",
            "nobody listens at 127.0.0.1:1",
        ),
        (
            "topic: a, value: 1, properties: {bootstrap.servers: '127.0.0.1:1', linger: '5'}",
            'properties: "linger" is not known here; did you mean "linger.ms"?',
        ),
    ],
    ids=["topic", "record", "name", "timestamp", "cluster", "away", "property"],
)
async def test_what_cannot_be_sent_fails_with_what_is_wrong(
    tmp_path: Path, broker: KafkaBroker, fields: str, reason: str
) -> None:
    more = {"request.timeout.ms": "3000"}
    settings = settings_for(broker.bootstrap, properties=more)
    async with harness(tmp_path, plugins=settings) as hub:
        await hub.put(publishing(fields))
        ended = await hub.run("t/p")
        [run] = (await hub.task_runs(ended.id)).values()
    assert ended.state == "FAILED"
    assert reason.format(servers=broker.bootstrap) in str(run.error)


BODIES: dict[str, Any] = {"several": [{"value": 1}, {"value": 2}], "tell": {"id": 7}}


@pytest.mark.parametrize("example", Publish.examples, ids=lambda text: text.partition("\n")[0][4:])
async def test_an_example_of_the_reference_runs(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, example: str
) -> None:
    for name in ("orders", "events"):
        example = example.replace(f"topic: {name}", f"topic: {await topics.create()}")
    lines = "\n".join(f"      {line}" for line in example.split("\n")).lstrip()
    async with hub_at(tmp_path, broker) as hub:
        file = await hub.node.services.payloads.store.put("x", "records.jsonl", b'{"value": 1}\n')
        await hub.put(
            "id: p\nnamespace: t\ninputs: [{id: name, type: STRING, defaults: Ada}]\n"
            f"triggers: [{{id: hook, type: webhook, key: k}}]\ntasks:\n    - {lines}\n"
        )
        body = BODIES.get(example.partition("\n")[0][4:], {"uri": file})
        ended = await hub.ended((await hub.start("t/p", trigger="hook", data={"body": body})).id)
        assert ended.state == "SUCCESS", ended.error
