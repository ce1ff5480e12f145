"""One HTTP request of a notifier, bounded on all sides, and what its answer means.

Where it goes comes from ``hub.yaml`` alone, never from a flow or an event. It follows no redirect, so that the
receiver cannot send it elsewhere; it reads no more than the beginning of the answer; what it says of a failure
names the host only, since an address may be a secret.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from hub.plugin.notifier import Gone, NotifierContext
from hub.plugin.outcomes import Failed, Retry

if TYPE_CHECKING:
    import aiohttp

_SESSION = "hub.notifier.session"
_LONGEST_ANSWER = 64 * 1024
_LONGEST_SHOWN = 200
_LONGEST_WAIT = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Answer:
    """What a receiver answered."""

    host: str
    status: int
    text: str
    """The beginning of its body."""
    retry_after: timedelta | None = None

    @property
    def is_good(self) -> bool:
        return 200 <= self.status < 300

    def __str__(self) -> str:
        shown = " ".join(self.text.split())[:_LONGEST_SHOWN]
        return f"{self.host} answered {self.status}" + (f": {shown}" if shown else "")


def web_address(text: str) -> str:
    """An http:// or https:// address. Raises ``ValueError``, which does not show it: it may be a secret."""
    try:
        parts = urlsplit(text)
        is_one = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_one = False
    if not is_one or not text.isprintable() or " " in text:
        raise ValueError("expected an address that begins with http:// or https://")
    return text


async def post(
    ctx: NotifierContext, url: str, body: bytes, headers: Mapping[str, str], *, method: str = "POST"
) -> Answer:
    """Send a request and answer what came back, whatever its status. Raises ``Failed``."""
    import aiohttp

    host = urlsplit(url).hostname or "?"
    session = await ctx.shared(_SESSION, _open_session)
    try:
        async with session.request(
            method, url, data=body, headers=dict(headers), allow_redirects=False
        ) as answer:
            raw = await _beginning(answer)
            return Answer(
                host, answer.status, raw.decode("utf-8", "replace"), _retry_after(answer.headers, ctx.now())
            )
    except (aiohttp.ClientError, OSError, ValueError) as error:
        # its text may hold the address
        raise Failed(f"{host}: {type(error).__name__}") from error


def check_answer(answer: Answer) -> None:
    """Return where a receiver has taken it; else raise what its status means.

    410 is ``Gone``; 429 and 503 are tried again when the receiver says; everything else by the schedule, a
    redirect too.
    """
    if answer.is_good:
        return
    if answer.status == 410:
        raise Gone(str(answer))
    if answer.status in (429, 503) and answer.retry_after is not None:
        raise Retry(str(answer), after=answer.retry_after)
    raise Failed(str(answer))


@asynccontextmanager
async def _open_session() -> AsyncIterator[aiohttp.ClientSession]:
    import aiohttp

    # the engine bounds the time; neither cookies nor a proxy of the environment reach another receiver
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(),
        connector=aiohttp.TCPConnector(limit=50),
        timeout=aiohttp.ClientTimeout(total=None),
        trust_env=False,
    ) as session:
        yield session


async def _beginning(answer: aiohttp.ClientResponse) -> bytes:
    raw = bytearray()
    async for chunk in answer.content.iter_chunked(8 * 1024):
        raw += chunk
        if len(raw) >= _LONGEST_ANSWER:
            break
    return bytes(raw[:_LONGEST_ANSWER])


def _retry_after(headers: Mapping[str, str], now: datetime) -> timedelta | None:
    """``Retry-After``, in seconds or as a date; None where there is none that can be read."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return min(timedelta(seconds=int(text[:9])), _LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment
    return min(max(moment - now, timedelta()), _LONGEST_WAIT)
