"""The storage's URL: what the driver is given, and what is the hub's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from hub.plugin import InvalidInput

SCHEMES = ("postgresql", "postgres")
_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,50}\Z")
_HINT = "write postgresql://USER@HOST:PORT/DATABASE, with ?schema=NAME for a schema of its own"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a hub's tables are."""

    dsn: str
    """For the driver."""
    schema: str

    @property
    def lock_key(self) -> str:
        """Names the schema in advisory locks, which are the whole database's."""
        return f"asynchub:{self.schema}"

    @property
    def channel(self) -> str:
        """Where its hubs tell each other that something was stored."""
        return f"asynchub_{self.schema}"


def address_of(url: str) -> Address:
    """The parts of a URL. Raises ``InvalidInput``."""
    try:
        parts = urlsplit(url)
        given = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        _ = parts.port  # raises where it is no number
    except ValueError as error:
        raise InvalidInput(f"the storage is no URL that can be read: {error}", hint=_HINT) from error
    if parts.scheme not in SCHEMES or parts.fragment:
        raise InvalidInput("the storage names no PostgreSQL database", hint=_HINT)
    schema = given.pop("schema", "public")
    if not _SCHEMA.match(schema) or schema.startswith("pg_"):
        raise InvalidInput(
            f'the schema "{schema}" is no plain name: small letters, digits and _, not pg_…', hint=_HINT
        )
    return Address(urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(given), "")), schema)
