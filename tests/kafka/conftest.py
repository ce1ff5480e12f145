"""One real broker for all tests of a session, and topics of their own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.services.kafka import KafkaBroker
from tests.support.topics import Topics


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker that nobody stops."""
    running = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    running.start()
    yield running
    running.stop()


@pytest.fixture
async def topics(broker: KafkaBroker) -> AsyncIterator[Topics]:
    """Topics of a test's own."""
    async with Topics.at(broker.bootstrap) as made:
        yield made
