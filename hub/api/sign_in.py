"""The sign-in form, and what it is sent to: a browser gives the token once and gets a cookie for it.

The form is what the guard answers, with 401, to a browser that opens the page without either. It needs no
script and loads nothing, because everything else of the page is behind the guard.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from urllib.parse import parse_qs

from aiohttp import web

from hub.api.routing import Call, Route
from hub.api.sessions import SESSION, SESSIONS
from hub.errors import NotFound

SIGN_IN = "/sign-in"
_FORM = Path(__file__).parent / "page" / "sign-in.html"
_FORM_TYPE = "application/x-www-form-urlencoded"
_WRONG = '<p role="alert" id="wrong">That is not the token of this hub.</p>'
_CAME_BY_LINK = '<p class="quiet">Signed in already? <a href="/">Open the page</a></p>'


def asks_for_page(request: web.Request, pattern: str) -> bool:
    """Whether a browser opens the page, or comes back to the form by its address."""
    return pattern in ("/", SIGN_IN) and "text/html" in request.headers.get("Accept", "")


def sign_in_form(request: web.Request, *, was_wrong: bool = False) -> web.Response:
    """The form, as the answer 401 that it is."""
    site = request.headers.get("Sec-Fetch-Site", "none")
    # after a link on another site the browser kept the cookie to itself
    notes = (_WRONG if was_wrong else "") + (_CAME_BY_LINK if site in ("cross-site", "same-site") else "")
    return web.Response(
        text=_form().replace("<!-- notes -->", notes),
        status=401,
        content_type="text/html",
        headers={"WWW-Authenticate": "Bearer"},
    )


@cache
def _form() -> str:
    return _FORM.read_text()


async def sign_in(call: Call) -> web.Response:
    sessions = call.request.app[SESSIONS]
    if not sessions.needs_token:
        raise NotFound("this hub has no token, so nobody has to sign in")
    if not sessions.is_token(await _given(call)):
        return sign_in_form(call.request, was_wrong=True)
    return _to_the_page(sessions.cookie(sessions.open(), over_tls=_is_over_tls(call.request)))


async def _given(call: Call) -> str:
    if call.request.content_type != _FORM_TYPE:
        return ""
    try:
        fields = parse_qs((await call.body()).decode(), max_num_fields=4)
    except ValueError:
        return ""
    return fields.get("token", [""])[0].strip()


async def sign_out(call: Call) -> web.Response:
    sessions, session = call.request.app[SESSIONS], call.request.get(SESSION)
    if session is not None:
        sessions.end(session)
    return _to_the_page(sessions.cookie(None, over_tls=_is_over_tls(call.request)))


def _is_over_tls(request: web.Request) -> bool:
    # the browser's own word: the hub sees plain HTTP behind its proxy
    return request.headers.get("Origin", "").startswith("https://")


def _to_the_page(cookie: str) -> web.Response:
    return web.Response(status=303, headers={"Location": "/", "Set-Cookie": cookie})


ROUTES = (
    Route("POST", SIGN_IN, sign_in, "Sign a browser in.", is_hidden=True),
    Route("POST", "/sign-out", sign_out, "Sign a browser out.", is_hidden=True),
)
