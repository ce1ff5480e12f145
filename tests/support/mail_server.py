"""A real mail server on loopback, with TLS and logins, that misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast

import trustme
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

USER, PASSWORD = "hub", "open sesame"
Manner = Literal["accept", "die", "stall"]


@dataclass
class Received:
    """One mail as it arrived."""

    sender: str
    recipients: list[str]
    raw: bytes
    login: str | None
    is_private: bool
    """Whether it came over TLS."""

    @cached_property
    def mail(self) -> EmailMessage:
        return message_from_bytes(self.raw, policy=policy.default)


@dataclass
class MailServer:
    """What a server has received, and how it answers."""

    port: int = 0
    ca_file: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    """What the next mails are answered with, one after another; afterwards they are accepted. ``die``: it is
    kept, and the connection is closed before the answer. ``stall``: kept, and never answered."""
    refused: dict[str, str] = field(default_factory=dict)
    """The answer for each recipient that is refused."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    stalled: asyncio.Event = field(default_factory=asyncio.Event)
    choose: Callable[[], str] | None = None
    """Chooses an answer where none is planned; an empty one accepts."""

    server: asyncio.Server | None = None
    again: Callable[[int], Awaitable[asyncio.Server]] | None = None

    @property
    def is_closed(self) -> bool:
        return self.server is None

    def close(self) -> None:
        """Listen no more."""
        if self.server is not None:
            self.server.close()
            self.server = None

    async def listen(self) -> None:
        """Listen at the same port as before."""
        assert self.again is not None
        self.server = await self.again(self.port)

    def ids(self) -> Counter[str]:
        """How often each Message-ID has arrived."""
        return Counter(str(one.mail["Message-ID"]) for one in self.received)

    # what aiosmtpd calls

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        answer = self.answers.pop(0) if self.answers else self.choose() if self.choose else ""
        if not answer or not answer[0].isdigit():
            login = session.auth_data.decode() if isinstance(session.auth_data, bytes) else None
            self.received.append(
                Received(
                    str(envelope.mail_from),
                    list(envelope.rcpt_tos),
                    cast(bytes, envelope.content),
                    login,
                    server.transport.get_extra_info("sslcontext") is not None,
                )
            )
            self.arrived.set()
        if answer == "die":
            server.transport.abort()
            return "250 never heard"
        if answer == "stall":
            self.stalled.set()
            await asyncio.sleep(3600)
        return answer or "250 OK"


def _authenticate(
    server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
) -> AuthResult:
    good = isinstance(data, LoginPassword) and (data.login, data.password) == (
        USER.encode(),
        PASSWORD.encode(),
    )
    return AuthResult(success=good, handled=False, auth_data=data.login if good else None)


@asynccontextmanager
async def mail_server(
    folder: Path, tls: Literal["starttls", "tls", "none"] = "starttls", *, logins: bool = True, port: int = 0
) -> AsyncIterator[MailServer]:
    """A server until the block ends; it demands TLS, and a login where it has any."""
    found = MailServer()
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost", "127.0.0.1").configure_cert(context)
    found.ca_file = str(folder / "ca.pem")
    authority.cert_pem.write_to_path(found.ca_file)

    def session() -> SMTP:
        return SMTP(
            found,
            hostname="mail.test",
            tls_context=context if tls == "starttls" else None,
            require_starttls=tls == "starttls",
            authenticator=_authenticate if logins else None,
            auth_required=logins,
            auth_require_tls=tls == "starttls",
            enable_SMTPUTF8=True,
            data_size_limit=50 * 1024 * 1024,
        )

    async def listen(port: int) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(session, "127.0.0.1", port, ssl=context if tls == "tls" else None)

    found.server = await listen(port)
    found.again = listen
    found.port = found.server.sockets[0].getsockname()[1]
    try:
        yield found
    finally:
        found.close()
