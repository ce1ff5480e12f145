"""Sessions of browsers: the token is given once, and a cookie stands for it from then on.

The guard asks here who a request comes from, the sign-in page opens and ends sessions. What a cookie holds is
random and kept nowhere: the hub remembers its digest, in memory alone, so a restart ends every session.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Mapping

from aiohttp import web

LIFETIME = 12 * 3600.0
"""Seconds that a session lasts, used or not."""

_MOST = 1_000


class Session:
    """One browser that gave the token."""

    def __init__(self, ends_at: float, now: Callable[[], float]) -> None:
        self._ends_at = ends_at
        self._now = now
        self._has_ended = False

    @property
    def is_alive(self) -> bool:
        """Whether it may still be used; what streams asks again while it goes on."""
        return not self._has_ended and self._now() < self._ends_at

    def end(self) -> None:
        """Let nobody use it any more."""
        self._has_ended = True


class Sessions:
    """Who gave the token, and who gave a cookie that stands for it."""

    def __init__(
        self, token: str | None, *, port: int = 0, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._token = _digest(token) if token else None
        # browsers tell hosts apart and not ports: each hub of a machine has a name of its own
        self._plain = f"hub_session_{port}"
        # such a one is set by this very host and sent over TLS only
        self._over_tls = f"__Host-{self._plain}"
        self._now = now
        # by the digest of the cookie's value, oldest first
        self._open: dict[bytes, Session] = {}

    @property
    def needs_token(self) -> bool:
        """Whether this hub has a token at all."""
        return self._token is not None

    def is_token(self, given: str) -> bool:
        """Whether a text is the token; how long this takes says nothing of how near it is."""
        return self._token is not None and hmac.compare_digest(_digest(given), self._token)

    def open(self) -> str:
        """A new session's cookie value; the oldest session ends where there are too many."""
        self._forget_ended()
        while len(self._open) >= _MOST:
            self._open.pop(next(iter(self._open))).end()
        value = secrets.token_urlsafe(32)
        self._open[_digest(value)] = Session(self._now() + LIFETIME, self._now)
        return value

    def of(self, cookies: Mapping[str, str]) -> Session | None:
        """The session that a request's cookies stand for."""
        for name in (self._over_tls, self._plain):
            # looked up by digest, so the time that takes says nothing of the values that are known
            session = self._open.get(_digest(cookies[name])) if name in cookies else None
            if session is not None and session.is_alive:
                return session
        return None

    def end(self, session: Session) -> None:
        """Sign out."""
        session.end()
        self._forget_ended()

    def cookie(self, value: str | None, *, over_tls: bool) -> str:
        """``Set-Cookie`` for a value, or to take it away: no script reads it, no other site has it sent."""
        name, more = (self._over_tls, "; Secure") if over_tls else (self._plain, "")
        gone = "; Max-Age=0" if value is None else ""
        return f"{name}={value or ''}; Path=/; HttpOnly; SameSite=Strict{more}{gone}"

    def _forget_ended(self) -> None:
        for key in [key for key, session in self._open.items() if not session.is_alive]:
            del self._open[key]


SESSIONS = web.AppKey("sessions", Sessions)
SESSION = web.RequestKey("session", Session)
"""On a request that a cookie let in."""


def may_go_on(request: web.Request) -> bool:
    """Whether an answer that lasts may go on: sign-out and expiry end the streams of a session too."""
    session = request.get(SESSION)
    return session is None or session.is_alive


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
