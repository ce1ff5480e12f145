"""What would have to happen for a hub to hold what the files say: a comparison, without I/O.

Called by ``hub flows push`` and ``hub flows diff``, which carry it out and show it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from hub.cli.flow_files import FlowFile
from hub.model.ids import FlowKey


class Step(StrEnum):
    """What a flow needs."""

    CREATE = "create"
    CHANGE = "change"
    KEEP = "keep"
    """The hub holds these very bytes."""
    DELETE = "delete"
    SKIP = "skip"
    """It belongs to a file in a folder that the hub serves: only that file can change it."""


@dataclass(frozen=True)
class Change:
    """One flow and what it needs."""

    key: FlowKey
    step: Step
    file: FlowFile | None = None
    revision: int | None = None
    """The hub's newest revision, None where it has none."""
    origin: str | None = None
    """The file of the hub that the flow belongs to."""


def compare(
    files: Sequence[FlowFile], served: Iterable[Mapping[str, Any]], namespaces: Collection[str]
) -> list[Change]:
    """Each flow of the namespaces with what it needs, by name; ``served`` is the hub's list of flows.

    A flow that no file declares needs to be deleted: whether that is wanted is the caller's business.
    """
    on_hub = {FlowKey(one["namespace"], one["id"]): one for one in served if one["namespace"] in namespaces}
    here = {file.key: file for file in files if file.key.namespace in namespaces}
    return [_change(key, here.get(key), on_hub.get(key)) for key in sorted(here.keys() | on_hub.keys())]


def _change(key: FlowKey, file: FlowFile | None, served: Mapping[str, Any] | None) -> Change:
    if served is None:
        return Change(key, Step.CREATE, file)
    return Change(key, _step(file, served), file, served["revision"], served["origin"])


def _step(file: FlowFile | None, served: Mapping[str, Any]) -> Step:
    if file is not None and digest(file.source) == served["sourceHash"]:
        return Step.KEEP
    if served["origin"] is not None:
        return Step.SKIP
    return Step.CHANGE if file is not None else Step.DELETE


def digest(source: bytes) -> str:
    """What the hub tells sources apart by."""
    return hashlib.sha256(source).hexdigest()
