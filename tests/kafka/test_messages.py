"""``kafka.messages``: every record of a real broker is one event, in order, whatever comes between."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from aiokafka import AIOKafkaConsumer

from hub.config.flows import load_flow
from hub.errors import InvalidFlow, StorageUnavailable
from hub.expressions import builtin_functions
from hub.plugin import Task, TaskContext
from hub.plugin.storage import EventFilter, Page
from hub.registry import load_plugins
from hub.testing import Harness
from hub.testing.steered import SteeredStorage
from tests.services.kafka import KafkaBroker
from tests.support.kafka_hub import data_of, executions, flow, hub_at, running
from tests.support.topics import Topics


async def nothing(step: Any) -> None:
    return None


async def test_each_record_is_one_execution_with_all_that_it_is(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await topics.producer.send_and_wait(
            topic,
            b'{"id": 7}',
            key=b"k",
            headers=[("one", b"1"), ("two", b"a"), ("two", b"b")],
            timestamp_ms=1_000,
        )
        [data] = await data_of(hub, 1)
    assert data == {
        "key": "k",
        "value": {"id": 7},
        "headers": {"one": "1", "two": ["a", "b"]},
        "topic": topic,
        "partition": 0,
        "offset": 0,
        "timestamp": "1970-01-01T00:00:01.000Z",
    }


async def test_records_from_before_the_flow_come_first_and_the_group_knows(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [1, 2, 3])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        assert [one["value"] for one in await data_of(hub, 3)] == [1, 2, 3]
    assert await topics.committed("hub.t.f.k", topic) == 3


async def test_a_hub_that_starts_again_takes_no_record_twice(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    storage = f"sqlite:///{tmp_path}/hub.db"
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await topics.put(topic, [1, 2])
        await executions(hub, 2)
    await topics.put(topic, [3])
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        assert [one["value"] for one in await data_of(hub, 3)] == [1, 2, 3]


async def test_what_the_storage_has_counts_where_the_commit_was_lost(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    """The group knows nothing: a crash between the event and the commit."""
    topic = await topics.create()
    storage = f"sqlite:///{tmp_path}/hub.db"
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}, group: first-{topic}"))
        await topics.put(topic, [1, 2, 3])
        await executions(hub, 3)
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}, group: second-{topic}"))
        await topics.put(topic, [4])
        assert [one["value"] for one in await data_of(hub, 4)] == [1, 2, 3, 4]
    assert await topics.committed(f"second-{topic}", topic) == 4


async def test_nothing_is_committed_before_the_storage_has_it(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(arrivals: Any) -> None:
        reached.set()
        await go_on.wait()

    storage = SteeredStorage()
    async with hub_at(
        tmp_path, broker, storage=storage.url, registry=storage.with_it(load_plugins({}))
    ) as hub:
        await hub.put(flow(f"topic: {topic}"))
        storage.before_accept = hold
        await topics.put(topic, [1])
        await reached.wait()
        await asyncio.sleep(0.5)  # as long as an early commit would need to show
        assert await topics.committed("hub.t.f.k", topic) is None
        storage.before_accept = nothing
        go_on.set()
        await executions(hub, 1)
    assert await topics.committed("hub.t.f.k", topic) == 1
    await storage.close()


async def test_a_storage_that_is_away_for_a_while_loses_nothing_and_repeats_nothing(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    refusals = iter(range(3))

    async def away(arrivals: Any) -> None:
        if next(refusals, None) is not None:
            raise StorageUnavailable("the disk is away")

    storage = SteeredStorage()
    async with hub_at(
        tmp_path, broker, storage=storage.url, registry=storage.with_it(load_plugins({}))
    ) as hub:
        await hub.put(flow(f"topic: {topic}"))
        storage.before_accept = away
        await topics.put(topic, [1, 2, 3])
        assert [one["value"] for one in await data_of(hub, 3)] == [1, 2, 3]
    await storage.close()


async def test_an_older_reader_that_goes_on_is_refused_and_adds_nothing(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    """Two hubs over one storage, as on two nodes: both read the partition, each record is one event."""
    topic = await topics.create()
    storage = SteeredStorage()
    registry = storage.with_it(load_plugins({}))
    async with hub_at(tmp_path / "one", broker, storage=storage.url, registry=registry) as one:
        await one.put(flow(f"topic: {topic}, group: one-{topic}"))
        await topics.put(topic, [1])
        await executions(one, 1)
        async with hub_at(tmp_path / "two", broker, storage=storage.url, registry=registry) as two:
            # another group: Kafka itself would let both read everything
            await two.put(flow(f"topic: {topic}, group: two-{topic}"))
            await topics.put(topic, [2, 3, 4])
            async with asyncio.timeout(30):
                while len(found := await values_in(two)) < 4:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(1)  # time for the other one to add what it must not
            assert sorted(await values_in(two)) == [1, 2, 3, 4], found
    await storage.close()


async def values_in(hub: Harness) -> list[Any]:
    page = await hub.node.services.storage.events(EventFilter(), Page(1000))
    return [stored.event.data["value"] for stored in page.items]


async def test_latest_begins_with_what_comes_and_passes_nothing_over_while_the_hub_is_down(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, ["old"])
    storage = f"sqlite:///{tmp_path}/hub.db"
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}, from: latest"))
        await running(hub)
    await topics.put(topic, ["new"])
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        assert [one["value"] for one in await data_of(hub, 1)] == ["new"]


async def test_a_moment_to_begin_at_is_kept(tmp_path: Path, broker: KafkaBroker, topics: Topics) -> None:
    topic = await topics.create()
    for second in (1, 2, 3):
        await topics.producer.send_and_wait(topic, b"%d" % second, timestamp_ms=second * 1000)
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, from: '1970-01-01T00:00:02Z'"))
        assert [one["value"] for one in await data_of(hub, 2)] == [2, 3]


async def test_a_pattern_reads_every_topic_that_it_matches_also_one_that_comes_later(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    one = await topics.create()
    await topics.put(one, ["one"])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topicPattern: '{one}(-more)?'"))
        await executions(hub, 1)
        more = await topics.create(name=f"{one}-more")
        await topics.create(name=f"{one}-more-than-that")
        await topics.put(more, ["more"])
        assert [found["topic"] for found in await data_of(hub, 2)] == [one, more]


# -- batches


async def test_a_batch_is_one_execution_in_the_order_of_its_partition(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, list(range(7)))
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 3, maxWait: PT0.2S}}"))
        found = await data_of(hub, 3)
    assert [[one["value"] for one in data["records"]] for data in found] == [[0, 1, 2], [3, 4, 5], [6]]
    assert [(data["count"], data["offset"], data["lastOffset"]) for data in found] == [
        (3, 0, 2),
        (3, 3, 5),
        (1, 6, 6),
    ]
    assert found[0]["records"][1]["offset"] == 1
    assert await topics.committed("hub.t.f.k", topic) == 7


async def test_a_large_batch_is_a_file_of_json_lines(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    big = 2**70
    await topics.put(topic, [b'{"n": %d}' % big, *({"text": "x" * 1000} for _ in range(99))])
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 100}}"))
        [data] = await data_of(hub, 1)
        assert (data["records"], data["count"]) == ([], 100)
        lines = (await hub.node.services.payloads.store.get(data["uri"])).decode().splitlines()
    found = [json.loads(line) for line in lines]
    assert [one["offset"] for one in found] == list(range(100))
    assert found[0]["value"] == {"n": big}
    assert found[99]["value"] == {"text": "x" * 1000}


async def test_the_next_batches_are_flushed_while_one_is_being_stored_and_keep_their_order(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [{"text": "x" * 1000} for _ in range(400)])
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold(arrivals: Any) -> None:
        if arrivals:
            reached.set()
            await go_on.wait()

    storage = SteeredStorage()
    registry = storage.with_it(load_plugins({}))
    async with hub_at(tmp_path, broker, storage=storage.url, registry=registry) as hub:
        storage.before_accept = hold
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 100}}"))
        async with asyncio.timeout(20):
            await reached.wait()
            # none of the others can be stored before the first one is
            while len([uri async for uri in hub.node.services.payloads.store.uris()]) < 4:
                await asyncio.sleep(0.05)
        assert await topics.committed("hub.t.f.k", topic) is None
        storage.before_accept = nothing
        go_on.set()
        found = await data_of(hub, 4)
    assert [(one["offset"], one["lastOffset"]) for one in found] == [
        (0, 99),
        (100, 199),
        (200, 299),
        (300, 399),
    ]
    assert await topics.committed("hub.t.f.k", topic) == 400
    await storage.close()


async def test_a_batch_is_not_stored_before_the_one_ahead_of_it_however_long_its_file_takes(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    await topics.put(topic, [{"text": "x" * 1000} for _ in range(300)])
    slow, others = asyncio.Event(), asyncio.Event()
    async with hub_at(tmp_path, broker) as hub:
        store = hub.node.services.payloads.store
        put = store.put
        count = 0

        async def put_slowly(owner: str, name: str, content: bytes) -> str:
            nonlocal count
            count += 1
            if count == 1:
                await slow.wait()
            elif count == 3:
                others.set()
            return await put(owner, name, content)

        store.put = put_slowly  # type: ignore[method-assign]
        await hub.put(flow(f"topic: {topic}, batch: {{maxMessages: 100}}"))
        async with asyncio.timeout(20):
            await others.wait()
        await asyncio.sleep(0.3)  # as long as one that overtakes would need to show
        assert await events_in(hub) == 0
        slow.set()
        found = await data_of(hub, 3)
    assert [one["offset"] for one in found] == [0, 100, 200]


async def events_in(hub: Harness) -> int:
    return len((await hub.node.services.storage.events(EventFilter(), Page(1000))).items)


async def test_a_batch_holds_one_partition(tmp_path: Path, broker: KafkaBroker, topics: Topics) -> None:
    topic = await topics.create(partitions=3)
    for partition in range(3):
        await topics.put(topic, ["a", "b"], partition=partition)
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}, batch: {{maxWait: PT0.2S}}"))
        found = await data_of(hub, 3)
    assert sorted(data["partition"] for data in found) == [0, 1, 2]
    assert all({one["partition"] for one in data["records"]} == {data["partition"]} for data in found)


# -- order


@pytest.mark.parametrize(("order", "most"), [("none", 4), ("partition", 2), ("key", 2)])
async def test_executions_of_one_order_run_one_after_another(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, order: str, most: int
) -> None:
    """Each waits until as many as may run beside it have begun: fewer would wait in vain, more would be seen."""
    topic = await topics.create(partitions=2)
    for number in range(3):
        await topics.put(topic, [number], key="a", partition=0)
        await topics.put(topic, [number], key="b", partition=1)
    together = Together(most)

    class Meet(Task):
        """Meets others."""

        type: ClassVar[str] = "test.meet"
        value: int = 0
        partition: int = 0

        async def run(self, ctx: TaskContext) -> None:
            await together.meet((self.partition, self.value))

    registry = load_plugins({})
    registry = replace(registry, tasks={**registry.tasks, Meet.type: Meet})
    meet = "{id: a, type: test.meet, value: '{{ trigger.value }}', partition: '{{ trigger.partition }}'}"
    async with hub_at(tmp_path, broker, registry=registry) as hub:
        await hub.put(flow(f"topic: {topic}, orderedBy: {order}", meet))
        await executions(hub, 6)
    assert together.most >= most
    if order != "none":
        assert together.most == 2
        for partition in range(2):
            assert [value for part, value in together.begun if part == partition] == [0, 1, 2]


class Together:
    """Counts who is here at a time."""

    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self._here = 0
        self._met = asyncio.Event()
        self.most = 0
        self.begun: list[tuple[int, int]] = []

    async def meet(self, who: tuple[int, int]) -> None:
        self.begun.append(who)
        self._here += 1
        self.most = max(self.most, self._here)
        if self._here >= self._wanted:
            self._met.set()
        async with asyncio.timeout(20):
            await self._met.wait()
        await asyncio.sleep(0.02)
        self._here -= 1


def test_an_order_beside_a_limit_of_the_flow_is_refused_when_it_is_saved() -> None:
    source = flow("topic: a, orderedBy: key") + "concurrency: {limit: 2}\n"
    with pytest.raises(InvalidFlow) as raised:
        load_flow(source, registry=load_plugins({}), functions=builtin_functions(lambda: datetime.now(UTC)))
    [problem] = raised.value.problems
    assert "stands in one line" in problem.message
    assert problem.position.line == 4


# -- topics that are created again


@pytest.mark.parametrize("count", [1, 3, 5])
async def test_a_topic_that_was_created_again_is_read_from_its_beginning(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, count: int
) -> None:
    """Shorter, as long, or longer than the old one: its log's end, or the record before the next one, tells."""
    topic = await topics.create()
    storage = f"sqlite:///{tmp_path}/hub.db"
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await topics.put(topic, ["old"] * 3)
        await executions(hub, 3)
    await topics.create_again(topic)
    await topics.put(topic, [f"new {number}" for number in range(count)])
    with structlog.testing.capture_logs() as logs:
        async with hub_at(tmp_path, broker, storage=storage) as hub:
            found = await data_of(hub, 3 + count)
    assert [one["value"] for one in found[3:]] == [f"new {number}" for number in range(count)]
    [said] = [one for one in logs if one["event"] == "a topic was created again: all of it is new"]
    assert (said["part"], said["incarnation"], said["cluster"]) == (f"{topic}/0", 2, "default")


async def test_a_topic_that_is_created_again_under_a_running_hub_is_read_from_its_beginning(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    async with hub_at(tmp_path, broker) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await topics.put(topic, ["old"] * 3)
        await executions(hub, 3)
        await topics.create_again(topic)
        await topics.put(topic, ["new"] * 2)
        found = await data_of(hub, 5)
    assert [one["value"] for one in found] == ["old"] * 3 + ["new"] * 2


# -- others of the group


async def test_what_another_member_of_the_group_has_taken_is_its_own(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    topic = await topics.create()
    storage = f"sqlite:///{tmp_path}/hub.db"
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await topics.put(topic, [1])
        await executions(hub, 1)
    await topics.put(topic, [2, 3])
    stranger = AIOKafkaConsumer(
        topic, bootstrap_servers=broker.bootstrap, group_id="hub.t.f.k", enable_auto_commit=False
    )
    await stranger.start()
    assert [json.loads((await stranger.getone()).value) for _ in range(2)] == [2, 3]
    await stranger.commit()
    await stranger.stop()
    await topics.put(topic, [4])
    async with hub_at(tmp_path, broker, storage=storage) as hub:
        assert [one["value"] for one in await data_of(hub, 2)] == [1, 4]
