"""Flows, their sources and revisions, and what is wrong with files that cannot be loaded."""

from __future__ import annotations

from pydantic import ConfigDict, Field

from hub.api.views.base import View
from hub.clock import iso
from hub.model.flow import FlowRecord


class FlowView(View):
    """A flow in use."""

    namespace: str
    id: str
    revision: int
    description: str | None = None
    labels: dict[str, str] = {}
    disabled: bool = False
    origin: str | None = Field(None, description="The file it belongs to; null when it came through the API.")
    source_hash: str = Field(description="SHA-256 of its source, in hex: equal for equal bytes.")
    updated_at: str
    triggers: list[str] = []

    @classmethod
    def of(cls, record: FlowRecord) -> FlowView:
        return cls(
            namespace=record.key.namespace,
            id=record.key.id,
            revision=record.revision,
            description=record.summary.get("description"),
            labels=record.summary.get("labels") or {},
            disabled=record.disabled,
            origin=record.origin,
            source_hash=record.source_hash,
            updated_at=iso(record.updated_at),
            triggers=[f"{t['id']} ({t['type']})" for t in record.summary.get("triggers", ())],
        )


class ProblemView(View):
    """One finding about a flow source."""

    file: str | None = None
    line: int
    column: int
    severity: str
    message: str
    hint: str | None = None


class BrokenFile(View):
    """A flow file whose newest text cannot be used."""

    file: str
    problems: list[ProblemView]


class FlowList(View):
    """Flows in use, and files that cannot be."""

    items: list[FlowView]
    broken: list[BrokenFile] = []
    next_cursor: str | None = None


class FlowPut(FlowView):
    """A flow as it is stored now."""

    changed: bool = Field(description="False when the content was the same: no new revision.")
    warnings: list[ProblemView] = []


class FlowSource(View):
    """A revision of a flow with its source."""

    namespace: str
    id: str
    revision: int
    source: str = Field(description="The YAML as it was put.")


class FlowSourceBody(View):
    """A flow's YAML inside JSON, for clients that send nothing else."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(description="The YAML.")
    namespace: str | None = Field(None, description="If given, that of the address.")
    id: str | None = Field(None, description="If given, that of the address.")


class RevisionView(View):
    """One revision of a flow."""

    revision: int
    created_at: str


class RevisionList(View):
    """A flow's revisions, newest first."""

    items: list[RevisionView]
