"""The notifier ``webhook``: Standard Webhooks, from the sender's side."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, ClassVar

from pydantic import Field, field_validator

from hub.plugin import (
    Duration,
    Notification,
    Notifier,
    NotifierContext,
    Static,
    check_answer,
    iso,
    jsontext,
    post,
    web_address,
)
from plugins_core.webhook.signatures import sign_standard

_TYPE = "hub.notice"
_RESERVED = frozenset(
    {"webhook-id", "webhook-timestamp", "webhook-signature", "content-type", "content-length"}
)


class WebhookNotifier(Notifier):
    """Send the notice as JSON to an address, signed as Standard Webhooks say.

    `webhook-id` is the same however often it is sent. Every answer but 2xx is a failure, a redirect too; 410
    disables the notifier until one of its notices is retried by hand.
    """

    type: ClassVar[str] = "webhook"
    examples: ClassVar[tuple[str, ...]] = (
        "type: webhook\nurl: https://example.test/hooks/hub\nsecret: \"{{ secret('HOOK_SECRET') }}\"",
    )

    url: str = Field(description="Where to.")
    secret: str | list[str] | None = Field(
        None,
        description="What it is signed with, `whsec_…`; several while one takes the place of another. Without one"
        " the receiver cannot tell who sent it.",
    )
    headers: dict[str, str] = Field({}, description="More request headers.")
    timeout: Static[Duration] = Field(
        timedelta(seconds=20),
        ge=timedelta(seconds=1),
        le=timedelta(minutes=10),
        description="How long one attempt may take.",
    )

    @field_validator("url")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        return web_address(value)

    @field_validator("secret")
    @classmethod
    def _signs(cls, value: str | list[str] | None) -> str | list[str] | None:
        given = [] if value is None else [value] if isinstance(value, str) else value
        if value is not None and not (given and all(given)):
            raise ValueError("an empty secret signs nothing")
        return value

    @field_validator("headers")
    @classmethod
    def _are_others(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if name.lower() in _RESERVED:
                raise ValueError(f"{name} is the hub's to set")
            if not name.isascii() or not f"{name}{text}".isprintable() or not name.strip() or " " in name:
                raise ValueError(f'"{name[:60]}" cannot be a header')
        return value

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        body = jsontext.dump_bytes(
            {"type": _TYPE, "timestamp": iso(notification.at), "data": _data(notification)}
        )
        secrets = [self.secret] if isinstance(self.secret, str) else self.secret or []
        headers = {
            "User-Agent": "asynchub",
            **self.headers,
            "Content-Type": "application/json",
            **sign_standard(secrets, body, ctx.now(), notification.id),
        }
        check_answer(await post(ctx, self.url, body, headers))


def _data(notification: Notification) -> dict[str, Any]:
    flow = notification.flow
    found: dict[str, Any] = {
        "id": notification.id,
        "subject": notification.subject,
        "message": notification.message,
        "html": notification.html,
        "level": notification.level,
        "namespace": flow.namespace if flow else None,
        "flowId": flow.id if flow else None,
        "executionId": notification.execution_id,
        "state": notification.state,
        "url": notification.url,
        "attachments": [{"name": one.name, "uri": one.uri} for one in notification.attachments],
    }
    if notification.parts:
        found["notices"] = [_data(part) for part in notification.parts]
    return found
