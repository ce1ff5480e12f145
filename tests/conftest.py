"""Services that tests share; each is started by the first test of a worker that asks for it."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from tests.services.postgres import PostgresServer

# a job in the background of a script, or under nohup, is started deaf to these, and so would be all that it starts
for _signal, _as_usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(_signal) is signal.SIG_IGN:
        signal.signal(_signal, _as_usual)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL that flushes nothing: for tests in which nothing goes down."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def durable_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL that keeps what it answered: for tests in which something goes down."""
    with PostgresServer(durable=True) as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> str:
    """A new database's URL."""
    return postgres_server.database()


@pytest.fixture(scope="module")
def module_database(postgres_server: PostgresServer) -> str:
    """A database's URL, one for all tests of a module: each empties it first."""
    return postgres_server.database()
