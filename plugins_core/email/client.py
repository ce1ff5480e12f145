"""One mail over SMTP: who has it, who does not, and whether trying again may help."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from email.utils import parseaddr

import aiosmtplib

from hub.plugin import Fail, Failed
from plugins_core.email.settings import Server

DONE = "done"
"""The progress of a mail: who has it already."""
_FOR_GOOD = range(500, 600)
_LONGEST = 200


async def send(
    mail: EmailMessage,
    server: Server,
    *,
    sender: str,
    recipients: Sequence[str],
    done: Sequence[str],
    timeout: float,
) -> None:
    """Send a mail to those who do not have it yet.

    Raises ``Fail`` where the server refuses it for good, ``Failed`` where trying again may help; both say who
    has it by then.
    """
    left = [one for one in dict.fromkeys(map(_bare, recipients)) if one not in done]
    if not left:
        return
    refused: dict[str, tuple[int, str]] = {}
    smtp = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        use_tls=server.tls == "tls",
        # said outright: a server that offers none is refused, not spoken to in the clear
        start_tls=server.tls == "starttls",
        tls_context=server.context() if server.tls != "none" else None,
        timeout=timeout,
    )
    try:
        await _connect(smtp, server)
        errors, _ = await smtp.send_message(mail, sender=_bare(sender), recipients=left)
        refused = {who: (said.code, said.message) for who, said in errors.items()}
    except aiosmtplib.SMTPRecipientsRefused as error:
        refused = {one.recipient: (one.code, one.message) for one in error.recipients}
    except aiosmtplib.SMTPResponseException as error:
        outcome = Fail if error.code in _FOR_GOOD else Failed
        raise outcome(f"{server.name} refuses the mail: {_answer(error)}") from error
    except (aiosmtplib.SMTPException, OSError) as error:
        raise Failed(f"{server.name}: {_plain(str(error)) or type(error).__name__}") from error
    finally:
        await _part_from(smtp)
    _judge(server, refused, left, done)


async def _connect(smtp: aiosmtplib.SMTP, server: Server) -> None:
    """Connect, begin TLS and log in. What is refused here is no mail: somebody will mend it, so it is tried again."""
    try:
        await smtp.connect()
    except aiosmtplib.SMTPAuthenticationError as error:
        raise Failed(f"{server.name} refuses the login: {_answer(error)}") from error
    except aiosmtplib.SMTPResponseException as error:
        raise Failed(f"{server.name} refuses the connection: {_answer(error)}") from error


async def _part_from(smtp: aiosmtplib.SMTP) -> None:
    """Say good-bye; a server that does not answer that has the mail all the same."""
    if smtp.is_connected:
        with contextlib.suppress(aiosmtplib.SMTPException, OSError):
            await smtp.quit(timeout=1)
    smtp.close()


def _judge(
    server: Server, refused: Mapping[str, tuple[int, str]], left: Sequence[str], done: Sequence[str]
) -> None:
    """Raise where some have not got it; who may get it later is tried again alone."""
    if not refused:
        return
    told = {DONE: [*done, *(one for one in left if one not in refused)]}
    reasons = "; ".join(f"{who}: {code} {_plain(message)}" for who, (code, message) in refused.items())
    reason = f"{server.name} refuses {reasons}"
    if all(code in _FOR_GOOD for code, _ in refused.values()):
        raise Fail(reason, outputs=told)
    raise Failed(reason, outputs=told)


def _answer(error: aiosmtplib.SMTPResponseException) -> str:
    return f"{error.code} {_plain(error.message)}"


def _plain(text: str) -> str:
    return " ".join(text.split())[:_LONGEST]


def _bare(address: str) -> str:
    return parseaddr(address)[1]
