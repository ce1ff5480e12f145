"""The guard before every route: Host, Origin and token; errors in one shape; security headers.

Without a token the hub serves loopback only, and even there a page of another site must not reach it:
Host and Origin are checked against an allow-list (DNS rebinding), and what a browser marks as sent by another
site is refused, images and links included. With a token every route needs it, except health and the webhooks
of loaded flows. A browser gives it once, in the form that the page's 401 is, and then sends a cookie, which counts
only for what a page of this hub sends.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from urllib.parse import urlsplit

import structlog
from aiohttp import web
from aiohttp.typedefs import Middleware

from hub.api.answers import SECURITY_HEADERS, Refusal, SmallAnswer, answer_for, error_answer
from hub.api.bodies import too_large
from hub.api.headers import readable
from hub.api.routing import Way, way_of
from hub.api.sessions import SESSION, Sessions
from hub.api.sign_in import SIGN_IN, asks_for_page, sign_in_form
from hub.engine.node import Node
from hub.errors import HubError
from hub.model.ids import FlowKey

log = structlog.get_logger("hub.api")

_PAGE_HEADERS = {
    # not no-referrer: a form of such a page says that it comes from nowhere
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
}
_FLOWS_PAGE_HEADERS = {
    # what a flow answers is shown, but it is no page of the hub: it has no cookie and runs no script
    "Content-Security-Policy": "sandbox allow-forms allow-popups; default-src 'self'; style-src 'self' 'unsafe-inline';"
    " img-src 'self' data:; frame-ancestors 'none'",
}
_PLAIN = frozenset({"application/json", "text/plain", "application/octet-stream"})
_WEBHOOKS = "/api/v1/webhooks/"
_HEALTH = frozenset({"/health/live", "/health/ready"})
_LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_SAME_SITE = frozenset({"none", "same-origin"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Guard:
    """Decides on every request before its route does."""

    def __init__(
        self, node: Node, sessions: Sessions, *, host: str, port: int, public_url: str | None
    ) -> None:
        self._node = node
        self._sessions = sessions
        self._hosts: set[str] = set()
        self._origins: set[str] = set()
        for name in {*_LOOPBACK, f"[{host}]" if ":" in host else host}:
            self._allow("http", name, port)
        if public_url:
            parts = urlsplit(public_url)
            name = f"[{parts.hostname}]" if ":" in str(parts.hostname) else str(parts.hostname)
            self._allow(parts.scheme, name, parts.port or _DEFAULT_PORTS[parts.scheme])

    def _allow(self, scheme: str, name: str, port: int) -> None:
        """Take a host and its pages for our own; a default port may be named or left away."""
        if not name:
            return
        spelled = {f"{name}:{port}"} | ({name} if port == _DEFAULT_PORTS[scheme] else set())
        self._hosts |= {one.lower() for one in spelled}
        self._origins |= {f"{scheme}://{one.lower()}" for one in spelled}

    def middleware(self) -> Middleware:
        """The one middleware of the application."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            return await self.passed(request, way_of(request), handler)

        return guarded

    async def passed(self, request: web.Request, way: Way, handler: Handler) -> web.StreamResponse:
        """The answer of the handler that the way leads to, or the refusal to go there."""
        refusal = self._refusal(request, way)
        answer = refusal if refusal is not None else await self._answer(request, handler)
        if not answer.prepared and not isinstance(answer, SmallAnswer):
            answer.headers.update(SECURITY_HEADERS)
            answer.headers.update(_more_headers(way, answer))
        return answer

    def _refusal(self, request: web.Request, way: Way) -> web.Response | None:
        if not request.raw_path.isascii():
            return error_answer(
                400, "bad_request", "the address holds bytes that are not ASCII", hint="percent-encode them"
            )
        if not self._sessions.needs_token:
            return self._foreign(request.headers)
        if self._is_open(request, way) or self._has_token(request):
            return None
        session = self._sessions.of(request.cookies)
        if session is not None:
            request[SESSION] = session
            return self._crossing(request)
        if asks_for_page(request, way.pattern):
            return sign_in_form(request)
        return error_answer(
            401,
            "unauthorized",
            "this hub needs a token",
            hint="send it as: Authorization: Bearer TOKEN",
            headers={"WWW-Authenticate": "Bearer"},
        )

    def _foreign(self, headers: Mapping[str, str]) -> web.Response | None:
        """The refusal of what a page of another site may have sent."""
        host = headers.get("Host", "")
        if host not in self._hosts and host.lower() not in self._hosts:
            return error_answer(
                421,
                "unknown_host",
                f'this hub does not answer to the host "{readable(host)}"',
                hint="call it by the address it printed, start it with --public-url URL, or set HUB_TOKEN",
            )
        origin = headers.get("Origin")
        if (origin is not None and origin.lower() not in self._origins) or (
            headers.get("Sec-Fetch-Site", "none") not in _SAME_SITE
        ):
            return error_answer(403, "foreign_origin", "requests from pages of other sites are refused")
        return None

    def _has_token(self, request: web.Request) -> bool:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._sessions.is_token(given.strip())

    def _crossing(self, request: web.Request) -> web.Response | None:
        """The refusal of what another site may have had a browser send with its cookie.

        A cookie is sent to every port of a host, and by its neighbours below the same name. What reads may
        come from an address that was typed; what acts has to say that a page of this hub sent it.
        """
        headers = request.headers
        site, origin = headers.get("Sec-Fetch-Site"), headers.get("Origin")
        acts = request.method not in _SAFE_METHODS
        is_ours = site is None or site == "same-origin" or (site == "none" and not acts)
        if origin is not None:
            is_ours = is_ours and self._is_own(origin, headers.get("Host", ""))
        elif acts:
            is_ours = is_ours and site == "same-origin"
        if is_ours:
            return None
        return error_answer(403, "foreign_origin", "requests from pages of other sites are refused")

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page of ours has this origin: known, or of the very host that was asked."""
        if origin.lower() in self._origins:
            return True
        is_known = host.lower() in self._hosts
        return not is_known and origin.lower() in {f"{one}://{host.lower()}" for one in _DEFAULT_PORTS}

    def _is_open(self, request: web.Request, way: Way) -> bool:
        # decided on the route that was found, never on how the path is spelled
        if way.pattern in _HEALTH:
            return True
        if way.pattern == SIGN_IN and request.method == "POST":
            return True  # the token is in its body, and is looked for there
        if not way.pattern.startswith(_WEBHOOKS):
            return False
        if not self._node.takes_events:
            return True  # not 401 for a flow that is not loaded yet: the sender is told to come again
        if self._node.neighbours is not None:
            return True  # another hub may have just put it, which is looked for where the request is handled
        flow = FlowKey(way.names["namespace"], way.names["flow"])
        return self._node.catalog.get(flow) is not None

    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except HubError as error:
            return answer_for(error, self._node.services.vault)
        except Refusal as refusal:
            return refusal.answer()
        except web.HTTPRequestEntityTooLarge:
            return too_large(request.client_max_size).answer()
        except web.HTTPMethodNotAllowed as error:
            allowed = ", ".join(sorted(error.allowed_methods))
            return error_answer(
                405, "method_not_allowed", f"{error.method} is not allowed here", headers={"Allow": allowed}
            )
        except web.HTTPNotFound:
            path = self._node.services.vault.mask(request.path)
            return error_answer(404, "not_found", f"there is nothing at {path}")
        except (web.HTTPException, ConnectionError):
            raise
        except Exception:
            # said in full to the operator, and only its existence to the caller
            log.exception("request failed", method=request.method, path=request.path)
            return error_answer(500, "internal_error", "the hub failed to answer; its log says more")


def _more_headers(way: Way, answer: web.StreamResponse) -> Mapping[str, str]:
    """What an answer that a browser may show as a page says beside the headers of every answer."""
    if answer.content_type in _PLAIN:
        return {}
    if way.pattern.startswith(_WEBHOOKS):
        return _FLOWS_PAGE_HEADERS
    return _PAGE_HEADERS if answer.content_type == "text/html" else {}
