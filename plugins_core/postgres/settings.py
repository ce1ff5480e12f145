"""What may be set about PostgreSQL: ``plugins: {postgres: …}`` in ``hub.yaml``; all of it has a default."""

from __future__ import annotations

from datetime import timedelta

from pydantic import Field, model_validator

from hub.plugin import Duration, Model


class PostgresSettings(Model):
    """How the hub uses its PostgreSQL; where it is, the setting `storage` says."""

    writers: int = Field(
        2,
        ge=1,
        le=16,
        description="Connections that write; each shares one commit among all that wait for it.",
    )
    others: int = Field(
        6, ge=2, le=100, description="The most connections for reading, claiming and what is done by hand."
    )
    lease: Duration = Field(
        timedelta(seconds=30),
        ge=timedelta(seconds=2),
        le=timedelta(minutes=10),
        description="How long a node may be silent before the others take over what it held.",
    )
    heartbeat: Duration = Field(
        timedelta(seconds=5),
        ge=timedelta(milliseconds=200),
        description="How often a node says that it is there; at most a third of `lease`.",
    )
    poll: Duration = Field(
        timedelta(seconds=1),
        ge=timedelta(milliseconds=50),
        le=timedelta(minutes=1),
        description="How often to look for what other nodes did, where no notification comes.",
    )
    statement_timeout: Duration = Field(
        timedelta(seconds=30), ge=timedelta(seconds=1), description="The longest that one statement may take."
    )
    lock_timeout: Duration = Field(
        timedelta(seconds=10),
        ge=timedelta(milliseconds=100),
        description="The longest that one statement may wait for another's lock.",
    )
    connect_timeout: Duration = Field(
        timedelta(seconds=5),
        ge=timedelta(milliseconds=100),
        description="The longest that connecting may take.",
    )
    allow_unsafe: bool = Field(
        False,
        description="Start on a server with `fsync` or `full_page_writes` off, which loses data when it goes down.",
    )

    @property
    def idle(self) -> timedelta:
        """How long a transaction may rest between two statements: a hub that froze in the middle of one keeps its
        locks for so long, and must not keep them for longer than others may need to take over."""
        return min(max(self.lease / 3, timedelta(seconds=2)), timedelta(seconds=10))

    @model_validator(mode="after")
    def _beats_in_time(self) -> PostgresSettings:
        if self.heartbeat * 3 > self.lease:
            raise ValueError(
                "heartbeat may be a third of lease at most, so that one that is lost ends nothing"
            )
        return self
