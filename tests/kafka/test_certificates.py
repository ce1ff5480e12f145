"""Certificates of clients: a server that asks for one gets it, and its name is looked at where that is asked for."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trustme

from plugins_core.kafka.settings import Cluster, Connection

_ELSEWHERE = "brokers.example.org"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> dict[str, str]:
    client = authority.issue_cert("hub@example.org")
    found = {name: str(tmp_path / f"{name}.pem") for name in ("caFile", "certFile", "keyFile")}
    authority.cert_pem.write_to_path(found["caFile"])
    client.cert_chain_pems[0].write_to_path(found["certFile"])
    client.private_key_pem.write_to_path(found["keyFile"])
    return found


@asynccontextmanager
async def a_server(authority: trustme.CA, name: str) -> AsyncIterator[int]:
    """A TLS server that takes nobody without a certificate of the authority."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greeted(port: int, settings: dict[str, Any]) -> bytes:
    cluster = Cluster.model_validate({"bootstrapServers": f"127.0.0.1:{port}", "tls": True, **settings})
    context = Connection("default", cluster, None).arguments()["ssl_context"]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        return await reader.read()
    finally:
        writer.close()


async def test_a_server_that_asks_for_a_certificate_gets_it(
    authority: trustme.CA, files: dict[str, str]
) -> None:
    async with a_server(authority, "127.0.0.1") as port:
        assert await greeted(port, files) == b"hello"
        # without one the server hangs up, which the client hears only when it reads
        with suppress(ssl.SSLError, ConnectionError):
            assert await greeted(port, {"caFile": files["caFile"]}) == b""


async def test_a_certificate_of_another_host_is_taken_only_where_that_is_said(
    authority: trustme.CA, files: dict[str, str]
) -> None:
    async with a_server(authority, _ELSEWHERE) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await greeted(port, files)
        assert await greeted(port, {**files, "checkHostname": False}) == b"hello"
