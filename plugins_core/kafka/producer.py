"""Producers: one per cluster for all tasks and triggers of a hub, idempotent and batched.

Shared by ``ctx.shared``. One that has failed for good (its sequence is lost, say) is replaced with the next record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from plugins_core.kafka.client import Unreachable, reason
from plugins_core.kafka.quiet import quieten
from plugins_core.kafka.settings import Connection

_TIMEOUT = 30_000
"""Milliseconds in which a record must have been taken by the broker."""
_TO_CLOSE = 5.0
_TOGETHER = 5_000
"""Records that may be under way for one task at a time."""


@dataclass(frozen=True, slots=True)
class ToSend:
    """One record as it goes out."""

    topic: str
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    partition: int | None = None
    timestamp: int | None = None
    """Milliseconds since the epoch."""


class Producer:
    """Sends records to one cluster."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._client: Any = None
        self._opening = asyncio.Lock()

    async def send(self, records: Sequence[ToSend]) -> list[tuple[int, int]]:
        """Partition and offset of each, once all of them are taken by the broker. Raises ``Unreachable``."""
        from aiokafka.errors import KafkaError

        client = await self._opened()
        placed: list[tuple[int, int]] = []
        try:
            for start in range(0, len(records), _TOGETHER):
                placed += await self._some(client, records[start : start + _TOGETHER])
        except (KafkaError, TimeoutError, OSError) as error:
            if not isinstance(error, KafkaError) or not error.retriable:
                await self._drop(client)
            topics = ", ".join(sorted({record.topic for record in records}))
            raise Unreachable(
                f"{self._connection.text}: topic {topics}: {await self._said(error)}"
            ) from error
        return placed

    async def _some(self, client: Any, records: Sequence[ToSend]) -> list[tuple[int, int]]:
        futures = []
        try:
            for one in records:
                futures.append(
                    await client.send(
                        one.topic,
                        one.value,
                        key=one.key,
                        headers=list(one.headers),
                        partition=one.partition,
                        timestamp_ms=one.timestamp,
                    )
                )
            return [(found.partition, found.offset) for found in await asyncio.gather(*futures)]
        except BaseException:
            # whoever does not look at them any more must not be told that nobody did
            for future in futures:
                future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                self._client = await self._open()
            return self._client

    async def _open(self) -> Any:
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaError

        quieten()
        given = {
            "client_id": "hub",
            "request_timeout_ms": _TIMEOUT,
            "linger_ms": 2,
            "max_request_size": 8 << 20,
        }
        given |= self._connection.tuning("any") | self._connection.tuning("producer")
        client = AIOKafkaProducer(
            **self._connection.arguments(), **given, acks="all", enable_idempotence=True
        )
        try:
            await client.start()
        except (KafkaError, OSError, TimeoutError) as error:
            with suppress(Exception):
                await client.stop()
            raise Unreachable(
                await reason(self._connection) or f"{self._connection.text}: {error}"
            ) from error
        return client

    async def _said(self, error: BaseException) -> str:
        """Why nothing was sent: what the cluster says, where it can be asked, else the client's own words."""
        from aiokafka import errors

        if isinstance(error, errors.UnknownTopicOrPartitionError):
            return "it does not exist"
        if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
            return f"a record is too large for the broker: {error}"
        why = await reason(self._connection)
        return why or f"{type(error).__name__}: {error}".removesuffix(": ")

    async def _drop(self, client: Any) -> None:
        async with self._opening:
            if self._client is client:
                self._client = None
                await _closed(client)

    async def close(self) -> None:
        if self._client is not None:
            await _closed(self._client)


async def _closed(client: Any) -> None:
    with suppress(Exception):
        async with asyncio.timeout(_TO_CLOSE):
            await client.stop()


@asynccontextmanager
async def opened(connection: Connection) -> AsyncIterator[Producer]:
    """A producer until the block ends; it connects with its first record."""
    producer = Producer(connection)
    try:
        yield producer
    finally:
        await producer.close()


async def shared_producer(ctx: Any, connection: Connection) -> Producer:
    """The producer of a cluster, from a task's or a trigger's context."""
    found: Producer = await ctx.shared(f"producer {connection.fingerprint}", lambda: opened(connection))
    return found
