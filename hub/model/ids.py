"""Identifiers: which spellings are allowed, and new ones.

Ids match ``[A-Za-z0-9][A-Za-z0-9_-]*``; a namespace is such parts joined by dots; a flow is named
``namespace/id`` everywhere.
"""

from __future__ import annotations

import re
import uuid
from typing import NamedTuple

from uuid_utils import uuid7

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*\Z")
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9][A-Za-z0-9_-]*)*\Z")
MAX_ID_LENGTH = 100
MAX_NAMESPACE_LENGTH = 200


class FlowKey(NamedTuple):
    """The name of a flow, ``namespace/id``."""

    namespace: str
    id: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.id}"


class TriggerKey(NamedTuple):
    """The name of a trigger inside its flow."""

    namespace: str
    flow: str
    trigger: str

    @property
    def flow_key(self) -> FlowKey:
        return FlowKey(self.namespace, self.flow)

    def __str__(self) -> str:
        return f"{self.namespace}/{self.flow}/{self.trigger}"


def is_id(text: str) -> bool:
    """Whether ``text`` may name a flow, task, trigger, input or output."""
    return len(text) <= MAX_ID_LENGTH and _ID.match(text) is not None


def is_namespace(text: str) -> bool:
    """Whether ``text`` may be a namespace."""
    return len(text) <= MAX_NAMESPACE_LENGTH and _NAMESPACE.match(text) is not None


def new_id() -> str:
    """A new time-ordered unique id (UUID version 7, RFC 9562)."""
    return str(uuid7())


def derived_id(*parts: str) -> str:
    """An id made from its parts, the same each time: a child's id comes from its parent's and its path."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, "\x1f".join(parts)))
