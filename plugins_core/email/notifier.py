"""The notifier ``email``."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field, ValidationInfo, field_validator

from hub.plugin import InvalidInput, Notification, Notifier, NotifierContext
from plugins_core.email.settings import EmailSettings, Server, Tls, address, check_privacy


class Email(Notifier):
    """Send a mail over SMTP: text, HTML and attachments.

    The mail server is that of `plugins.email`, or one of its own where `host` is set. A repeat, sent where the
    server's answer was lost, has the same Message-ID. A recipient who is refused does not keep the others from
    getting it.
    """

    type: ClassVar[str] = "email"
    examples: ClassVar[tuple[str, ...]] = (
        "type: email\nto: [ops@example.org]",
        "type: email\nto: [ops@example.org, Ada <ada@example.org>]\nfrom: hub@example.org\n"
        "host: smtp.example.org\ntls: tls\nusername: hub\npassword: \"{{ secret('SMTP_PASSWORD') }}\"",
    )

    to: str | list[str] = Field(min_length=1, description="Who gets it.")
    cc: list[str] = Field([], description="Who gets a copy.")
    bcc: list[str] = Field([], description="Who gets a copy that the others do not know of.")
    reply_to: str | None = Field(None, description="Where answers go.")
    from_: str | None = Field(
        None, alias="from", description="The sender; that of `plugins.email` by default."
    )
    host: str | None = Field(
        None, min_length=1, description="A mail server of its own; nothing of `plugins.email` is used then."
    )
    port: int | None = Field(None, ge=1, le=65535, description="Its port: 587, 465 or 25, by `tls`.")
    tls: Tls = Field(
        "starttls", description="`starttls` before anything is said, `tls` from the first byte, or `none`."
    )
    ca_file: str | None = Field(
        None, description="A file with the certificates to trust, in place of the system's."
    )
    username: str | None = Field(None, description="The user name; without one nobody logs in.")
    password: str | None = Field(None, description="The password: `{{ secret('NAME') }}`.")

    @field_validator("from_", "reply_to")
    @classmethod
    def _is_an_address(cls, value: str | None) -> str | None:
        return value if value is None else address(value)

    @field_validator("to", "cc", "bcc")
    @classmethod
    def _are_addresses(cls, value: str | list[str]) -> str | list[str]:
        for one in [value] if isinstance(value, str) else value:
            address(one)
        return value

    # field by field, not over the whole: what holds an expression cannot be judged at the start, the rest can
    @field_validator("port", "tls", "ca_file", "username", "password")
    @classmethod
    def _has_a_server(cls, value: Any, info: ValidationInfo) -> Any:
        if value is not None and info.data.get("host") is None:
            raise ValueError("a server of its own needs host:, or leave its settings to plugins.email")
        return value

    @field_validator("username")
    @classmethod
    def _is_private(cls, value: str | None, info: ValidationInfo) -> str | None:
        host = info.data.get("host")
        if host is not None and "{{" not in host:
            check_privacy(info.data.get("tls", "none"), host, value)
        return value

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        from plugins_core.email import client
        from plugins_core.email.message import mail_of

        settings: EmailSettings = ctx.settings
        server = await self._server(settings, ctx)
        sender = self.from_ or settings.from_
        if sender is None:
            raise InvalidInput("no sender: set from: in the notifier, or in plugins.email")
        to = [self.to] if isinstance(self.to, str) else self.to
        mail = await mail_of(notification, ctx, sender=sender, to=to, cc=self.cc, reply_to=self.reply_to)
        await client.send(
            mail,
            server,
            sender=sender,
            recipients=[*to, *self.cc, *self.bcc],
            done=ctx.progress.get(client.DONE, []),
            timeout=self.timeout.total_seconds(),
        )

    async def _server(self, settings: EmailSettings, ctx: NotifierContext) -> Server:
        if self.host is not None:
            return Server(self.host, self.port, self.tls, self.ca_file, self.username, self.password)
        password = settings.password.get_secret_value() if settings.password is not None else None
        if settings.password_secret is not None:
            password = await ctx.secret(settings.password_secret)
        return Server(
            settings.host, settings.port, settings.tls, settings.ca_file, settings.username, password
        )
