"""The notifier ``slack``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, field_validator, model_validator

from hub.plugin import (
    Answer,
    Fail,
    Failed,
    Notification,
    Notifier,
    NotifierContext,
    check_answer,
    jsontext,
    post,
    web_address,
)

_API = "https://slack.com/api"
_LONGEST = 39_000
"""Characters; Slack cuts a text off at 40,000."""
_FOR_GOOD_STATUSES = (400, 403, 404)
_LATER = frozenset(
    {"ratelimited", "rate_limited", "internal_error", "fatal_error", "service_unavailable", "request_timeout"}
)
"""The errors of the API after which the same request may succeed."""


class Slack(Notifier):
    """Write to a Slack channel, by an incoming webhook or as a bot.

    Attachments are named, not sent. A bot's message carries the notice's id in its metadata.
    """

    type: ClassVar[str] = "slack"
    examples: ClassVar[tuple[str, ...]] = (
        "type: slack\nwebhookUrl: \"{{ secret('SLACK_WEBHOOK_URL') }}\"",
        "type: slack\ntoken: \"{{ secret('SLACK_BOT_TOKEN') }}\"\nchannel: C0123456789",
    )

    webhook_url: str | None = Field(
        None,
        description="The address of an incoming webhook; whoever knows it may write, so keep it as a secret.",
    )
    token: str | None = Field(None, description="A bot token (`xoxb-…`) with the scope `chat:write`.")
    channel: str | None = Field(None, description="With `token`: the channel's id.")
    api_url: str = Field(_API, description="With `token`: where Slack's API is.")

    @field_validator("webhook_url", "api_url")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return value if value is None else web_address(value)

    @model_validator(mode="after")
    def _one_way(self) -> Slack:
        if (self.webhook_url is None) == (self.token is None):
            raise ValueError("give either webhookUrl, or token and channel")
        if self.token is not None and self.channel is None:
            raise ValueError("a bot needs a channel")
        return self

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        text = _text(notification)
        if self.webhook_url is not None:
            _check_webhook(await self._post(ctx, self.webhook_url, {"text": text}))
            return
        message: dict[str, Any] = {
            "channel": self.channel,
            "text": text,
            "unfurl_links": False,
            "metadata": {"event_type": "asynchub_notice", "event_payload": {"id": notification.id}},
        }
        url = f"{self.api_url.rstrip('/')}/chat.postMessage"
        _check_api(await self._post(ctx, url, message, {"Authorization": f"Bearer {self.token}"}))

    async def _post(
        self, ctx: NotifierContext, url: str, body: dict[str, Any], headers: dict[str, str] | None = None
    ) -> Answer:
        given = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "asynchub",
            **(headers or {}),
        }
        return await post(ctx, url, jsontext.dump_bytes(body), given)


def _check_webhook(answer: Answer) -> None:
    if answer.status in _FOR_GOOD_STATUSES:
        raise Fail(str(answer))
    check_answer(answer)


def _check_api(answer: Answer) -> None:
    check_answer(answer)
    try:
        said = jsontext.loads(answer.text)
    except ValueError:
        raise Failed(f"{answer.host} answered something else than JSON") from None
    if isinstance(said, dict) and said.get("ok") is True:
        return
    error = str(said.get("error") if isinstance(said, dict) else said)[:100]
    raise (Failed if error in _LATER else Fail)(f"{answer.host} refuses the message: {error}")


def _text(notification: Notification) -> str:
    """The notification in Slack's own markup; nothing in it mentions anybody."""
    parts = [f"*{_escaped(notification.subject)}*", _escaped(notification.message)]
    if notification.attachments:
        parts.append(_escaped("Files: " + ", ".join(one.name for one in notification.attachments)))
    text = "\n".join(parts)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "… (cut off)"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
