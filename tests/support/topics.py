"""Topics of a test's own at a real broker: made, filled, read and removed by a client that is not the hub."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import TopicAlreadyExistsError


class Topics:
    """Makes topics and puts records into them."""

    def __init__(self, bootstrap: str, admin: AIOKafkaAdminClient, producer: AIOKafkaProducer) -> None:
        self.bootstrap = bootstrap
        self._admin = admin
        self.producer = producer

    @classmethod
    @asynccontextmanager
    async def at(cls, bootstrap: str) -> AsyncIterator[Topics]:
        admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
        producer = AIOKafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=8 << 20)
        await admin.start()
        await producer.start()
        try:
            yield cls(bootstrap, admin, producer)
        finally:
            await producer.stop()
            await admin.close()

    async def create(self, *, partitions: int = 1, name: str | None = None) -> str:
        """A new topic; its name is unlike any other unless one is given."""
        topic = name or f"t-{uuid.uuid4().hex[:12]}"
        await self._admin.create_topics([NewTopic(topic, partitions, 1)])
        return topic

    async def delete(self, topic: str) -> None:
        await self._admin.delete_topics([topic])

    async def create_again(self, topic: str, *, partitions: int = 1) -> None:
        """Delete a topic and make another one of its name, as soon as the broker has forgotten it."""
        await self.delete(topic)
        async with asyncio.timeout(10):
            while True:
                with suppress(TopicAlreadyExistsError):
                    await self.create(name=topic, partitions=partitions)
                    return
                await asyncio.sleep(0.05)  # it tells nobody

    async def put(
        self, topic: str, values: Sequence[Any], *, key: str | None = None, partition: int | None = None
    ) -> None:
        """Records whose values are these: bytes as they are, the rest as JSON; returns once they are there."""
        futures = []
        for value in values:
            raw = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
            given = key.encode() if key is not None else None
            futures.append(await self.producer.send(topic, raw, key=given, partition=partition))
        for future in futures:
            await future

    async def read(self, topic: str, count: int) -> list[Any]:
        """The first records of a topic, in order of their arrival."""
        consumer = AIOKafkaConsumer(
            topic, bootstrap_servers=self.bootstrap, auto_offset_reset="earliest", enable_auto_commit=False
        )
        await consumer.start()
        try:
            return [await consumer.getone() for _ in range(count)]
        finally:
            await consumer.stop()

    async def committed(self, group: str, topic: str, partition: int = 0) -> int | None:
        """What a group has committed."""
        found = await self._admin.list_consumer_group_offsets(group)
        one = found.get(TopicPartition(topic, partition))
        return None if one is None else int(one.offset)


def headers_of(record: Any) -> Mapping[str, bytes]:
    return dict(record.headers)
