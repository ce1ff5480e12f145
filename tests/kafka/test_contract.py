"""``kafka.messages`` and ``kafka.publish`` keep the contracts of their kinds, at a real broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from hub.registry import load_plugins
from hub.testing import Source, TaskContract, TriggerContract, TriggerRun
from tests.services.kafka import KafkaBroker
from tests.support.kafka_hub import FAST
from tests.support.topics import Topics

REGISTRY = load_plugins({})


class Topic(Source):
    """A topic, and what its group has committed."""

    keeps: ClassVar[bool] = True

    def __init__(self, broker: KafkaBroker, topics: Topics, topic: str) -> None:
        self._topics = topics
        self._topic = topic
        self._group = f"g-{topic}"
        self._committed = 0
        properties = {"bootstrap.servers": broker.bootstrap, **FAST}
        self.fields = {"topic": topic, "group": self._group, "properties": properties}

    async def happen(self, running: TriggerRun, number: int) -> None:
        await self._topics.put(self._topic, [number])

    async def watch(self) -> None:
        """Ask the broker now and then: it tells nobody."""
        while True:
            self._committed = await self._topics.committed(self._group, self._topic) or 0
            await asyncio.sleep(0.05)

    def acknowledged(self) -> int:
        return self._committed


class TestMessages(TriggerContract):
    trigger_type = REGISTRY.triggers["kafka.messages"]

    @pytest.fixture
    async def source(self, broker: KafkaBroker, topics: Topics) -> AsyncIterator[Topic]:
        # the test's own connections are there before anybody looks at what is left behind
        await topics.put(await topics.create(), [0])
        topic = Topic(broker, topics, await topics.create())
        watching = asyncio.create_task(topic.watch())
        await asyncio.sleep(0.2)
        yield topic
        watching.cancel()
        await asyncio.wait([watching])


class TestPublish(TaskContract):
    task = REGISTRY.tasks["kafka.publish"]

    @pytest.fixture
    async def fields(self, broker: KafkaBroker, topics: Topics) -> Mapping[str, Any]:
        topic = await topics.create()
        return {"topic": topic, "value": {"n": 1}, "properties": {"bootstrap.servers": broker.bootstrap}}

    @pytest.fixture
    async def slow_fields(self) -> AsyncIterator[Mapping[str, Any]]:
        """Somebody who listens and never answers."""

        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(ConnectionError):
                while await reader.read(1000):
                    pass
            writer.close()

        async with await asyncio.start_server(silent, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            yield {"topic": "t", "value": 1, "properties": {"bootstrap.servers": f"127.0.0.1:{port}"}}
