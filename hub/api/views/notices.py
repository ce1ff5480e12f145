"""Notices, their attachments, and the notifiers that deliver them."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from hub.api.views.base import View
from hub.clock import iso
from hub.plugin.notices import Notice


class NoticeSummary(View):
    """A notice in a list."""

    id: str
    notifier: str = Field(description="Whom it is to, a name under `notifiers:` in hub.yaml.")
    state: str = Field(description="`owed`, `delivered`, `dead` or `dropped`.")
    subject: str
    level: str = Field(description="`DEBUG`, `INFO`, `WARN` or `ERROR`.")
    namespace: str | None = None
    flow: str | None = Field(None, description="The flow's id.")
    execution_id: str | None = None
    attempts: int = Field(description="How many attempts have failed.")
    error: str | None = Field(None, description="Why the last attempt failed.")
    created_at: str = Field(description="When it was first owed.")
    due_at: str | None = Field(None, description="When it is to be sent; null once it is settled.")
    settled_at: str | None = Field(None, description="When it was delivered, given up or dropped.")
    delivery_id: str | None = Field(
        None, description="The id that it is sent under, alone or with others; null until it was first tried."
    )

    @classmethod
    def fields_of(cls, notice: Notice) -> dict[str, Any]:
        return {
            "id": notice.id,
            "notifier": notice.notifier,
            "state": notice.state.value,
            "subject": notice.content.get("subject", ""),
            "level": notice.content.get("level", "INFO"),
            "namespace": notice.flow.namespace if notice.flow else None,
            "flow": notice.flow.id if notice.flow else None,
            "execution_id": notice.execution_id,
            "attempts": notice.attempts,
            "error": notice.error,
            "created_at": iso(notice.created_at),
            "due_at": iso(notice.due_at) if notice.due_at else None,
            "settled_at": iso(notice.settled_at) if notice.settled_at else None,
            "delivery_id": notice.delivery_id,
        }

    @classmethod
    def of(cls, notice: Notice) -> NoticeSummary:
        return cls(**cls.fields_of(notice))


class AttachmentView(View):
    """A file that goes with a notice."""

    name: str
    uri: str


class NoticeView(NoticeSummary):
    """One notice with what it says."""

    message: str
    html: str | None = None
    attachments: list[AttachmentView] = []

    @classmethod
    def of(cls, notice: Notice) -> NoticeView:
        content = notice.content
        return cls(
            **cls.fields_of(notice),
            message=content.get("message", ""),
            html=content.get("html"),
            attachments=[AttachmentView(name=name, uri=uri) for name, uri in content.get("attachments", ())],
        )


class NoticeList(View):
    """A page of notices, newest first."""

    items: list[NoticeSummary]
    next_cursor: str | None = None


class NotifierView(View):
    """A notifier of hub.yaml."""

    name: str
    type: str
    disabled: str | None = Field(None, description="Why nothing is sent to it; a retry by hand enables it.")
    sending: int = Field(description="How many notices are being sent.")
    delivered: int = Field(description="How many deliveries succeeded since the hub started.")
    failed: int = Field(description="How many attempts failed since then.")
    dead: int = Field(description="How many notices were given up since then.")


class NotifierList(View):
    """The notifiers, by name."""

    items: list[NotifierView]
