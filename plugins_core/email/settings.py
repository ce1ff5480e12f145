"""Mail servers: how one is reached, and who may use it."""

from __future__ import annotations

import ipaddress
import ssl
from email.utils import parseaddr
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from hub.plugin import InvalidInput, Model

Tls = Literal["starttls", "tls", "none"]
_PORTS = {"starttls": 587, "tls": 465, "none": 25}


class EmailSettings(Model):
    """The mail server of every `email` notifier that names none of its own."""

    host: str = Field("localhost", min_length=1, description="The mail server.")
    port: int | None = Field(None, ge=1, le=65535, description="Its port: 587, 465 or 25, by `tls`.")
    tls: Tls = Field(
        "starttls",
        description="`starttls` before anything is said, `tls` from the first byte, or `none`.",
    )
    ca_file: str | None = Field(
        None, description="A file with the certificates to trust, in place of the system's."
    )
    username: str | None = Field(None, description="The user name; without one nobody logs in.")
    password: SecretStr | None = Field(None, description="The password; better kept as a secret.")
    password_secret: str | None = Field(None, description="The name of the secret that is the password.")
    from_: str | None = Field(None, alias="from", description="The sender: `hub@example.org`.")

    @field_validator("from_")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return value if value is None else address(value)

    @model_validator(mode="after")
    def _is_private(self) -> EmailSettings:
        check_privacy(self.tls, self.host, self.username)
        return self


class Server:
    """A mail server with everything that is needed to use it."""

    def __init__(
        self,
        host: str,
        port: int | None,
        tls: Tls,
        ca_file: str | None,
        username: str | None,
        password: str | None,
    ) -> None:
        self.host = host
        self.port = port or _PORTS[tls]
        self.tls = tls
        self.username = username
        self.password = password
        self._ca_file = ca_file

    @property
    def name(self) -> str:
        return f"{self.host}:{self.port}"

    def context(self) -> ssl.SSLContext:
        """What its certificate is checked against. Raises ``InvalidInput``."""
        changed_at = 0
        if self._ca_file is not None:
            try:
                changed_at = Path(self._ca_file).stat().st_mtime_ns
            except OSError as error:
                raise InvalidInput(f"caFile {self._ca_file} cannot be read: {error.strerror}") from error
        try:
            return _context(self._ca_file, changed_at)
        except (ssl.SSLError, OSError) as error:
            raise InvalidInput(f"caFile {self._ca_file} holds no certificates: {error}") from error


@lru_cache(maxsize=8)
def _context(ca_file: str | None, changed_at: int) -> ssl.SSLContext:
    """Made once for all mails: reading the system's certificates takes longer than a mail does."""
    return ssl.create_default_context(cafile=ca_file)


def check_privacy(tls: Tls, host: str, username: str | None) -> None:
    """Raise ``ValueError`` where a password would cross a network for everybody to read."""
    if tls == "none" and username is not None and not _is_here(host):
        raise ValueError(f"a password is not sent to {host} without TLS; set tls: starttls or tls: tls")


def _is_here(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def address(text: str) -> str:
    """A mail address, with a name before it or not. Raises ``ValueError``."""
    _, found = parseaddr(text)
    local, _, domain = found.rpartition("@")
    if not local or not domain or not text.isprintable() or any(char in found for char in ' <>,;"()'):
        raise ValueError(f'"{text[:80]}" is not a mail address: write name@example.org')
    return text
