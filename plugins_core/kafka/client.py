"""What is asked of a cluster before and beside the clients' own work, and why one cannot be reached.

The client library says "unable to bootstrap" for everything; here a connection is opened by hand and its error told
in the user's words. Imports of the library are inside the functions: a hub without a cluster never loads it.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from hub.plugin import HubError
from plugins_core.kafka.quiet import quieten
from plugins_core.kafka.settings import Connection

_PATIENCE = 5.0
"""Seconds that an answer may take."""


class Unreachable(HubError):
    """A cluster that cannot be used now; the message names it and says why."""


async def reason(connection: Connection) -> str | None:
    """Why a cluster cannot be used, None when it can."""
    try:
        async with _first_that_answers(connection):
            return None
    except Unreachable as error:
        return error.message


async def topics_of(connection: Connection) -> dict[str, int]:
    """The topics that may be seen, each with its number of partitions. Raises ``Unreachable``."""
    from aiokafka.protocol.metadata import MetadataRequest

    async with _first_that_answers(connection) as opened:
        # of all topics: one that is named and is not there might be created by the asking
        answer = await _asked(connection, opened, MetadataRequest(None))
        return {topic: len(partitions) for _, topic, _, partitions in answer.topics}


@asynccontextmanager
async def _first_that_answers(connection: Connection) -> AsyncIterator[Any]:
    """A connection to one of the servers. Raises ``Unreachable`` with what the last one said."""
    from aiokafka.protocol.metadata import MetadataRequest

    quieten()
    arguments = connection.arguments()
    del arguments["bootstrap_servers"]
    failure: Unreachable | None = None
    for server in connection.servers:
        host, _, port = server.rpartition(":")
        try:
            opened = await _opened(connection, host.strip("[]"), int(port), arguments)
        except Unreachable as error:
            failure = error
            continue
        try:
            # whoever may not come in without a login is told so by the first question
            await _asked(connection, opened, MetadataRequest([]))
            yield opened
            return
        finally:
            opened.close()
    assert failure is not None
    raise failure


async def _opened(connection: Connection, host: str, port: int, arguments: dict[str, Any]) -> Any:
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError

    try:
        async with asyncio.timeout(_PATIENCE):
            return await create_conn(host, port, client_id="hub", **arguments)
    except (OSError, KafkaError, TimeoutError, AssertionError) as error:
        raise Unreachable(f"{connection.text}: {_said(connection, f'{host}:{port}', error)}") from error


async def _asked(connection: Connection, opened: Any, request: Any) -> Any:
    from aiokafka.errors import KafkaError

    try:
        async with asyncio.timeout(_PATIENCE):
            return await opened.send(request)
    except (OSError, KafkaError, TimeoutError) as error:
        raise Unreachable(f"{connection.text}: {_said(connection, 'it', error)}") from error


def _said(connection: Connection, server: str, error: BaseException) -> str:
    """An error of connecting in the user's words."""
    from aiokafka import errors

    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of {server} is not trusted: {error.verify_message}; name its authority in caFile"
    if isinstance(error, ssl.SSLError):
        return f"TLS is set and {server} does not speak it ({error.reason}); take out tls or use its TLS port"
    if isinstance(error, socket.gaierror):
        return f"the name in {server} is not known: {error.strerror}"
    if isinstance(error, ConnectionRefusedError):
        return f"nobody listens at {server}; is the broker running?"
    if isinstance(error, errors.SaslAuthenticationFailed | errors.AuthenticationFailedError):
        return f"{server} refuses the login: wrong user name or password"
    if isinstance(error, errors.UnsupportedSaslMechanismError):
        return f"{server} does not know this saslMechanism: {error}"
    if isinstance(error, TimeoutError | errors.KafkaTimeoutError):
        return f"{server} does not answer within {_PATIENCE:.0f} s"
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return f"{server} cannot be reached: {error.strerror or error}"
    if connection.uses_tls or connection.logs_in:
        return f"{server} closed the connection; does this port speak what tls and saslMechanism say?"
    return f"{server} closed the connection; does this port want tls: true or a login by saslMechanism?"
