"""What ``plugins.sql`` in ``hub.yaml`` may hold: the databases, each under a name of the operator's.

Flows name a database and never say where it is: whoever may write flows reaches no other than these.
"""

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from hub.plugin import Model

Scheme = Literal["sqlite", "postgresql"]


class Connection(Model):
    """One database."""

    url: str = Field(description="`sqlite:////var/lib/shop.db` or `postgresql://user@host:5432/shop`.")
    password_secret: str | None = Field(None, description="The name of the secret that is the password.")
    pool: int = Field(4, ge=1, le=100, description="PostgreSQL: how many connections at most.")

    @field_validator("url")
    @classmethod
    def _is_known(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("sqlite", "postgresql"):
            raise ValueError("expected sqlite:////absolute/path or postgresql://user@host/database")
        if parts.password:
            raise ValueError("a password is kept as a secret: leave it out, and set passwordSecret")
        if parts.scheme == "sqlite" and not value.startswith("sqlite:////"):
            raise ValueError("a path from the root needs four slashes: sqlite:////var/lib/shop.db")
        return value

    @property
    def scheme(self) -> str:
        return urlsplit(self.url).scheme


class SqlSettings(Model):
    """The databases that flows may ask."""

    connections: dict[str, Connection] = Field({}, description="The databases, by name.")
