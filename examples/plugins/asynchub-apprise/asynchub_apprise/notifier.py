"""The notifier ``apprise``: whoever one of Apprise's many services reaches."""

import asyncio
import hashlib
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from asynchub_apprise import client
from hub.plugin import Fail, Failed, Notification, Notifier, NotifierContext

_DONE = "done"
"""What an attempt leaves to the next one: the marks of the addresses that have it."""
_SHARE = 0.8
"""The share of an attempt's time that one request may take: its thread is not left behind."""


class Apprise(Notifier):
    """Tell people over any of the services that Apprise knows, each by its address.

    Where several addresses are given, one that fails does not keep the others from being told, and is tried
    again alone. Apprise says no more than whether it worked, and has no way to give a receiver the notice's id:
    a lost answer may be told twice.
    """

    type: ClassVar[str] = "apprise"
    examples: ClassVar[tuple[str, ...]] = (
        "type: apprise\nurls: \"{{ secret('NTFY_URL') }}\"",
        'type: apprise\nurls: ["{{ secret(\'TELEGRAM_URL\') }}", "json://status.example.org/hub"]',
    )

    urls: str | list[str] = Field(
        min_length=1, description="The addresses, as Apprise has them: `ntfy://…`. Keep them as secrets."
    )

    async def send(self, notification: Notification, ctx: NotifierContext) -> None:
        urls = [self.urls] if isinstance(self.urls, str) else self.urls
        done = set(ctx.progress.get(_DONE, ()))
        left = {_mark(url): url for url in urls if _mark(url) not in done}
        files = [(one.name, await ctx.file(one.uri)) for one in notification.attachments]
        answers = await asyncio.gather(
            *(self._tell(number, url, notification, files) for number, url in enumerate(left.values(), 1)),
            return_exceptions=True,
        )
        problems = []
        for mark, answer in zip(left, answers, strict=True):
            if answer is None:
                done.add(mark)
            elif isinstance(answer, Exception):
                problems.append(answer)
            else:
                raise answer  # it was cancelled
        if not problems:
            return
        # what would fail again is given up only where nothing else is left to be done
        kind = Fail if all(isinstance(one, Fail) for one in problems) else Failed
        raise kind("; ".join(map(str, problems)), outputs={_DONE: sorted(done)})

    async def _tell(
        self, number: int, url: str, notification: Notification, files: list[tuple[str, Path]]
    ) -> None:
        # Apprise blocks, and takes a while to load: both in a thread
        problem = await asyncio.to_thread(
            client.tell, url, notification, files, seconds=self.timeout.total_seconds() * _SHARE
        )
        if problem is None:
            return
        raise (Fail if problem.is_final else Failed)(f"address {number}: {problem.reason}")


def _mark(url: str) -> str:
    """What an address is known by in the storage, where no secret may be."""
    return hashlib.sha256(url.encode()).hexdigest()[:16]
