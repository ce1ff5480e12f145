"""A cluster that is away, comes back, wants a login or speaks TLS: what is wrong is said, and reading goes on by itself."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer

from hub.registry import load_plugins
from hub.testing import Harness, harness
from hub.testing.steered import SteeredStorage
from plugins_core.kafka.quiet import Quiet
from plugins_core.kafka.reader import Reader
from tests.services.kafka import PASSWORD, USER, KafkaBroker
from tests.support.kafka_hub import KEY, data_of, flow, hub_at, running, settings_for
from tests.support.topics import Topics

_RETURNS_WITHIN = 10.0


@pytest.fixture
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker of a test's own, to be stopped and started; not started yet."""
    own = KafkaBroker(tmp_path_factory.mktemp("fragile"))
    yield own
    own.stop()


async def failing(hub: Harness, *, timeout: float = 20) -> str:
    """What is wrong with the trigger, once something is."""
    async with asyncio.timeout(timeout):
        while True:
            status = hub.node.triggers.status(KEY)
            if status.state == "failing" and status.error is not None:
                return status.error
            await asyncio.sleep(0.05)  # what it reports wakes nobody


async def test_a_broker_that_is_not_there_at_the_start_is_read_once_it_comes(
    tmp_path: Path, fragile: KafkaBroker
) -> None:
    async with hub_at(tmp_path, fragile) as hub:
        await hub.put(flow("topic: orders"))
        error = await failing(hub)
        assert (
            error
            == f'cluster "default" ({fragile.bootstrap}): nobody listens at {fragile.bootstrap}; is the broker running?'
            " (topic orders)"
        )
        await asyncio.to_thread(fragile.start)
        async with Topics.at(fragile.bootstrap) as topics:
            missing = f'cluster "default" ({fragile.bootstrap}): topic "orders" does not exist; it is read as soon as it is created'
            async with asyncio.timeout(_RETURNS_WITHIN):
                while await failing(hub) != missing:
                    await asyncio.sleep(0.05)
            await topics.create(name="orders")
            await topics.put("orders", [1])
            async with asyncio.timeout(_RETURNS_WITHIN):
                assert [one["value"] for one in await data_of(hub, 1)] == [1]
            await running(hub)


async def test_a_broker_that_was_killed_is_read_again_and_nothing_comes_twice(
    tmp_path: Path, fragile: KafkaBroker
) -> None:
    await asyncio.to_thread(fragile.start)
    async with Topics.at(fragile.bootstrap) as topics, hub_at(tmp_path, fragile) as hub:
        topic = await topics.create()
        await hub.put(flow(f"topic: {topic}"))
        await topics.put(topic, [1])
        await data_of(hub, 1)
        await asyncio.to_thread(fragile.kill)
        assert "nobody listens" in await failing(hub)
        assert fragile.bootstrap in await failing(hub)
        await asyncio.to_thread(fragile.start)
        async with asyncio.timeout(_RETURNS_WITHIN):
            await topics.put(topic, [2])
            assert [one["value"] for one in await data_of(hub, 2)] == [1, 2]
        await running(hub)


@pytest.mark.parametrize(
    ("port", "given", "reason"),
    [
        (
            "with_login",
            {"saslMechanism": "PLAIN", "username": USER, "password": "wrong"},
            "refuses the login: wrong",
        ),
        (
            "with_login",
            {"saslMechanism": "SCRAM-SHA-512", "username": USER, "password": "no"},
            "refuses the login: wrong",
        ),
        ("with_login", {}, "does this port want tls: true or a login by saslMechanism?"),
        ("with_tls", {}, "does this port want tls: true or a login by saslMechanism?"),
        (
            "with_tls",
            {"tls": True},
            "is not trusted: unable to get local issuer certificate; name its authority in caFile",
        ),
        ("bootstrap", {"tls": True}, "does this port speak what tls and saslMechanism say?"),
        (
            "bootstrap",
            {"tls": True, "caFile": "nowhere.pem"},
            "TLS cannot be set up: nowhere.pem is not there",
        ),
    ],
    ids=["PLAIN", "SCRAM", "no login", "no tls", "not trusted", "tls", "no ca"],
)
async def test_what_a_cluster_refuses_is_said_with_its_name(
    tmp_path: Path, broker: KafkaBroker, port: str, given: dict[str, Any], reason: str
) -> None:
    servers = getattr(broker, port)
    async with harness(tmp_path, plugins=settings_for(servers, **given)) as hub:
        await hub.put(flow("topic: orders"))
        error = await failing(hub)
    assert error.startswith(f'cluster "default" ({servers}): ')
    assert reason in error


@pytest.mark.parametrize(
    ("port", "given"),
    [
        ("with_login", {"saslMechanism": "PLAIN", "username": USER, "password": PASSWORD}),
        ("with_login", {"saslMechanism": "SCRAM-SHA-256", "username": USER, "passwordSecret": "KAFKA"}),
        ("with_login", {"saslMechanism": "SCRAM-SHA-512", "username": USER, "password": PASSWORD}),
        ("with_tls", {"tls": True, "caFile": "{ca}"}),
    ],
    ids=["PLAIN", "SCRAM-256 and a secret", "SCRAM-512", "tls"],
)
async def test_every_way_in_is_read_and_written_through(
    tmp_path: Path, broker: KafkaBroker, topics: Topics, port: str, given: dict[str, Any]
) -> None:
    topic, target = await topics.create(), await topics.create()
    given = {name: str(broker.ca_file) if value == "{ca}" else value for name, value in given.items()}
    settings = settings_for(getattr(broker, port), **given)
    task = f"{{id: a, type: kafka.publish, topic: {target}, value: '{{{{ trigger.value }}}}'}}"
    async with harness(tmp_path, plugins=settings, environ={"HUB_SECRET_KAFKA": PASSWORD}) as hub:
        await hub.put(flow(f"topic: {topic}", task))
        await topics.put(topic, [7])
        await data_of(hub, 1)
    assert [one.value for one in await topics.read(target, 1)] == [b"7"]


async def test_a_cluster_by_kafkas_own_names(tmp_path: Path, broker: KafkaBroker, topics: Topics) -> None:
    topic = await topics.create()
    login = f'org.apache.kafka.common.security.plain.PlainLoginModule required username="{USER}" password="{PASSWORD}";'
    inline = (
        f"{{bootstrap.servers: '{broker.with_login}', security.protocol: SASL_PLAINTEXT, sasl.mechanism: PLAIN,"
        f" sasl.jaas.config: '{login}', session.timeout.ms: 1500, heartbeat.interval.ms: 300}}"
    )
    async with harness(tmp_path) as hub:
        await hub.put(flow(f"topic: {topic}, properties: {inline}"))
        await topics.put(topic, [7])
        assert [one["value"] for one in await data_of(hub, 1)] == [7]


def test_the_clients_log_comes_at_a_pace_that_people_can_read() -> None:
    now = 0.0
    shown: list[str] = []
    target = logging.Logger("target")

    class Seen(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.append(record.getMessage())

    target.addHandler(Seen())
    handler = Quiet(target, now=lambda: now)
    theirs = logging.Logger("aiokafka.conn")
    theirs.addHandler(handler)
    for tenth in range(400):
        now = tenth / 10
        theirs.error("Unable connect to node with id %s", tenth % 3)
        theirs.info("not even this")
    theirs.error("something else")
    assert shown == [
        "aiokafka.conn: Unable connect to node with id 0",
        "aiokafka.conn: Unable connect to node with id 0 (299 more like it in the last 30 s)",
        "aiokafka.conn: something else",
    ]


async def test_a_storage_that_takes_nothing_pauses_the_partitions_and_keeps_the_member(
    tmp_path: Path, broker: KafkaBroker, topics: Topics
) -> None:
    """What waits, waits in the topic: what lies in the hub is bounded, and the group gives nothing away."""
    topic = await topics.create(partitions=2)
    go_on = asyncio.Event()

    async def hold(arrivals: Any) -> None:
        await go_on.wait()

    storage = SteeredStorage()
    registry = storage.with_it(load_plugins({}))
    async with hub_at(tmp_path, broker, storage=storage.url, registry=registry) as hub:
        await hub.put(flow(f"topic: {topic}"))
        await running(hub, parts=2)
        storage.before_accept = hold
        for partition in range(2):
            await topics.put(topic, ["x" * 1000] * 1_500, partition=partition)
        try:
            # those of other tests may still lie about
            [consumer] = [
                one
                for one in gc.get_objects()
                if isinstance(one, AIOKafkaConsumer) and any(part.topic == topic for part in one.assignment())
            ]
            async with asyncio.timeout(20):
                while len(consumer.paused()) < 2:
                    await asyncio.sleep(0.05)
            generation = consumer._coordinator.generation
            await asyncio.sleep(2)  # longer than the session of a member that says nothing
            lying = sum(
                len(lane._records)
                for one in gc.get_objects()
                if isinstance(one, Reader)
                for part, lane in one._lanes.items()
                if part.topic == topic
            )
            assert lying <= 1_600
            assert consumer._coordinator.generation == generation
        finally:
            # else the hub could not end either
            storage.before_accept = nothing
            go_on.set()
        async with asyncio.timeout(60):
            while (await running(hub, parts=2)).taken < 3_000:
                await asyncio.sleep(0.1)
    await storage.close()
    assert (
        sum([await topics.committed("hub.t.f.k", topic, partition) or 0 for partition in range(2)]) == 3_000
    )


async def nothing(step: Any) -> None:
    return None
