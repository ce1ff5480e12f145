"""From a notification to a mail: text, HTML and attachments, the same bytes each time it is tried."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from pathlib import Path

from hub.plugin import Attachment, NotFound, Notification, NotifierContext

MOST_BYTES = 20 * 1024 * 1024
"""Of all attachments of a mail; most servers take 25 MB, and in a mail they are a third longer."""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    content: bytes


async def mail_of(
    notification: Notification,
    ctx: NotifierContext,
    *,
    sender: str,
    to: Sequence[str],
    cc: Sequence[str],
    reply_to: str | None,
) -> EmailMessage:
    """The mail that tells a notification.

    An attachment that is gone, or too large, is no reason to be silent: the text says so.
    """
    files, missing = await _files(notification.attachments, ctx)
    mail = EmailMessage(policy=SMTP)
    mail["From"] = sender
    mail["To"] = ", ".join(to)
    if cc:
        mail["Cc"] = ", ".join(cc)
    if reply_to is not None:
        mail["Reply-To"] = reply_to
    mail["Subject"] = notification.subject
    mail["Date"] = format_datetime(notification.at)
    # the same however often it is sent: whoever has it already can tell
    mail["Message-ID"] = f"<{notification.id}@{_domain(sender)}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("\n\n".join([notification.message, *missing]) + "\n")
    if notification.html is not None:
        mail.add_alternative(notification.html + "".join(f"<p>{one}</p>" for one in missing), subtype="html")
    for file in files:
        kind = mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        main, _, sub = kind.partition("/")
        mail.add_attachment(file.content, maintype=main, subtype=sub, filename=file.name)
    _fix_boundaries(mail, notification.id)
    return mail


def _domain(sender: str) -> str:
    return parseaddr(sender)[1].rpartition("@")[2]


async def _files(attachments: Sequence[Attachment], ctx: NotifierContext) -> tuple[list[_File], list[str]]:
    """The attachments that can be sent, and a line for each that cannot."""
    files: list[_File] = []
    missing: list[str] = []
    left = MOST_BYTES
    for one in attachments:
        try:
            path = await ctx.file(one.uri)
            size = path.stat().st_size
            if size > left:
                missing.append(f"({one.name} is left out: the attachments of a mail may have 20 MB)")
                continue
            left -= size
            files.append(_File(one.name, await asyncio.to_thread(Path.read_bytes, path)))
        except (NotFound, FileNotFoundError):
            missing.append(f"({one.name} is not there any more)")
    return files, missing


def _fix_boundaries(mail: EmailMessage, id: str) -> None:
    for number, part in enumerate(part for part in mail.walk() if part.is_multipart()):
        part.set_boundary(f"=_{id}_{number}")
