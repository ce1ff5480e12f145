"""One call of Apprise, in a thread; it is loaded by the first one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hub.plugin import Notification


@dataclass(frozen=True)
class Problem:
    """Why an address was not told; no address and no part of one is in it."""

    reason: str
    is_final: bool


def tell(
    url: str, notification: Notification, files: Sequence[tuple[str, Path]], *, seconds: float
) -> Problem | None:
    """Tell one address; answers what went wrong, None where it was told."""
    import apprise
    from apprise.attachment.file import AttachFile

    _silence()
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if not isinstance(service, apprise.NotifyBase):
        return Problem("Apprise knows no service of this kind, or the address is not as it has to be", True)
    service.socket_connect_timeout = service.socket_read_timeout = seconds / 2
    kind = {"ERROR": apprise.NotifyType.FAILURE, "WARN": apprise.NotifyType.WARNING}
    attach = apprise.AppriseAttachment()
    for name, path in files:
        attach.add(AttachFile(str(path), name=name))
    told = service.notify(
        body=notification.message,
        title=notification.subject,
        notify_type=kind.get(notification.level, apprise.NotifyType.INFO),
        attach=attach if files else None,
    )
    return None if told else Problem(f"{service.service_name} was not told", False)


def _silence() -> None:
    """What Apprise logs may hold an address."""
    import logging

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
