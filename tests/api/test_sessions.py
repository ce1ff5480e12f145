"""Sessions: what a browser has to give, what its cookie is good for, and what nobody gets by it."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import urlencode

import pytest
from aiohttp import ClientSession, DummyCookieJar

from hub.api.sessions import LIFETIME, Sessions
from tests.api.conftest import Asking, Said, Serve

_TOKEN = "let-me-in"
_GUARDED = {"HUB_TOKEN": _TOKEN}
_FORM = {"Content-Type": "application/x-www-form-urlencoded"}
_BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
_FLOW = b"id: w\nnamespace: q\ntriggers: [{id: h, type: webhook, key: k}]\ntasks: [{id: t, type: return, value: 1}]\n"


async def sign_in(ask: Asking, token: str = _TOKEN, **headers: str) -> Said:
    body = urlencode({"token": token}).encode()
    return await ask("POST", "/sign-in", body, {**_FORM, **_BROWSER, **headers})


async def cookie_of(ask: Asking) -> str:
    answer = await sign_in(ask, Origin=ask.url)
    assert answer.status == 303
    ask.session.cookie_jar.clear()
    return answer.headers["set-cookie"].partition(";")[0]


async def test_a_browser_without_a_token_gets_the_form_as_401(serving: Serve) -> None:
    async with serving(_GUARDED) as ask:
        answer = await ask("GET", "/", headers=_BROWSER)
        assert answer.status == 401
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert b'<form method="post" action="/sign-in">' in answer.raw
        # all that it needs is in it: everything else is behind the guard
        assert not re.search(rb'(src|href)="(?!data:)', answer.raw)
        assert b"<script" not in answer.raw
        assert (await ask("GET", "/")).json["code"] == "unauthorized"


@pytest.mark.parametrize(
    "path",
    ["/ui/app.js", "/ui/style.css", "/api/v1/flows", "/api/v1/stream", "/api/v1/openapi.json", "/metrics", "/nowhere"],
)  # fmt: skip
async def test_nothing_else_is_a_form_or_open(serving: Serve, path: str) -> None:
    async with serving(_GUARDED) as ask:
        answer = await ask("GET", path, headers=_BROWSER)
        assert (answer.status, answer.json["code"]) == (401, "unauthorized")


@pytest.mark.parametrize("given", ["", "let-me", "let-me-in-too", "LET-ME-IN", "\0", "ü", "let-me-in\n\nx"])
async def test_what_is_not_the_token_signs_nobody_in(serving: Serve, given: str) -> None:
    async with serving(_GUARDED) as ask:
        answer = await sign_in(ask, given)
        assert answer.status == 401
        assert "set-cookie" not in answer.headers
        assert b"That is not the token" in answer.raw
        assert not given or given.encode() not in answer.raw or given == "let-me"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"token": "let-me-in"}', "application/json"),
        (b"token=let-me-in", "text/plain"),
        (b"token=%ff%fe", "application/x-www-form-urlencoded"),
        (b"\xff\xfe", "application/x-www-form-urlencoded"),
        (b"&".join(b"token=x" for _ in range(1000)), "application/x-www-form-urlencoded"),
        (b"", "application/x-www-form-urlencoded"),
        (b"token", "multipart/form-data"),
    ],
)
async def test_a_body_that_no_form_of_ours_sends_is_401(serving: Serve, body: bytes, kind: str) -> None:
    async with serving(_GUARDED) as ask:
        assert (await ask("POST", "/sign-in", body, {"Content-Type": kind})).status == 401


async def test_the_token_never_comes_by_the_address(serving: Serve) -> None:
    async with serving(_GUARDED) as ask:
        for path in ("/?token=let-me-in", "/sign-in?token=let-me-in", "/api/v1/flows?access_token=let-me-in"):
            answer = await ask("GET", path, headers=_BROWSER)
            assert (answer.status, b"let-me-in" in answer.raw) == (401, False)
        assert (await ask("POST", "/sign-in?token=let-me-in", b"", _FORM)).status in (401, 422)


async def test_a_cookie_opens_what_the_token_opens(serving: Serve) -> None:
    async with serving(_GUARDED) as ask:
        given = {"Cookie": await cookie_of(ask)}
        page = await ask("GET", "/", headers={**given, **_BROWSER})
        assert page.status == 200
        assert b'id="sign-out" hidden' not in page.raw
        assert (await ask("GET", "/ui/app.js", headers=given)).status == 200
        assert (await ask("GET", "/api/v1/flows", headers=given)).status == 200
        put = await ask("PUT", "/api/v1/flows/q/w", _FLOW, {**given, "Origin": ask.url})
        assert put.status == 201


async def test_a_cookie_is_for_this_hub_and_no_script(serving: Serve) -> None:
    async with serving(_GUARDED) as ask:
        plain = (await sign_in(ask, Origin=ask.url)).headers["set-cookie"]
        assert re.fullmatch(rf"hub_session_{ask.port}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Strict", plain)
        over_tls = (await sign_in(ask, Origin="https://hub.example.org")).headers["set-cookie"]
        assert re.fullmatch(
            rf"__Host-hub_session_{ask.port}=[\w-]{{43}}; Path=/; HttpOnly; SameSite=Strict; Secure", over_tls
        )


_ACTS = [
    ({"Origin": "{own}"}, 201),
    ({"Origin": "{own}", "Sec-Fetch-Site": "same-origin"}, 201),
    ({"Sec-Fetch-Site": "same-origin"}, 201),
    ({"Origin": "https://hub.example.org"}, 201),
    ({"Origin": "https://proxied.test", "Host": "proxied.test"}, 201),
    ({}, 403),
    ({"Origin": ""}, 403),
    ({"Origin": "null"}, 403),
    ({"Origin": "null", "Sec-Fetch-Site": "same-origin"}, 403),
    ({"Origin": "http://evil.test"}, 403),
    ({"Origin": "http://evil.test", "Sec-Fetch-Site": "same-origin"}, 403),
    ({"Origin": "http://127.0.0.1:1"}, 403),
    ({"Origin": "{own}.evil.test"}, 403),
    ({"Origin": "https://127.0.0.1:{port}"}, 403),
    ({"Origin": "{own}", "Sec-Fetch-Site": "cross-site"}, 403),
    ({"Origin": "{own}", "Sec-Fetch-Site": "same-site"}, 403),
    ({"Sec-Fetch-Site": "none"}, 403),
    ({"Sec-Fetch-Site": "same-site"}, 403),
]


@pytest.mark.parametrize(("headers", "status"), _ACTS)
async def test_a_cookie_acts_for_pages_of_this_hub_alone(
    serving: Serve, headers: dict[str, str], status: int
) -> None:
    async with serving({**_GUARDED, "HUB_PUBLIC_URL": "https://hub.example.org"}) as ask:
        given = {k: v.format(own=ask.url, port=ask.port) for k, v in headers.items()}
        cookie = await cookie_of(ask)
        answer = await ask("PUT", "/api/v1/flows/q/w", _FLOW, {**given, "Cookie": cookie})
        assert answer.status == status, answer.raw
        # whoever has the token itself is no browser that was misled
        token = {"Authorization": f"Bearer {_TOKEN}"}
        assert (await ask("PUT", "/api/v1/flows/q/w", _FLOW, {**given, **token})).status in (200, 201)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Origin": "http://evil.test"}, 403),
    ],
)
async def test_a_cookie_reads_for_pages_of_this_hub_alone(
    serving: Serve, headers: dict[str, str], status: int
) -> None:
    async with serving(_GUARDED) as ask:
        cookie = await cookie_of(ask)
        answer = await ask("GET", "/api/v1/flows", headers={**headers, "Cookie": cookie})
        assert answer.status == status


async def test_a_cookie_that_was_not_given_out_opens_nothing(serving: Serve) -> None:
    async with serving(_GUARDED) as ask:
        cookie = await cookie_of(ask)
        name, _, value = cookie.partition("=")
        for odd in (
            f"{name}=", f"{name}={value[:-1]}", f"{name}={value}x", f"{name}={value.swapcase()}", f"x{cookie}",
            f"{name}={_TOKEN}", f"{name}=\xff\xfe", f"{name}={'a' * 6000}", f'{name}="', ";=;", f"{name}=\\0",
        ):  # fmt: skip
            answer = await ask("GET", "/api/v1/flows", headers={"Cookie": odd})
            assert answer.status == 401, odd


async def test_signing_out_ends_the_session_and_its_streams(serving: Serve) -> None:
    async with serving(_GUARDED) as ask, ClientSession(cookie_jar=DummyCookieJar()) as other:
        given = {"Cookie": await cookie_of(ask)}
        await ask.node.catalog.put(_FLOW.decode())
        async with other.get(f"{ask.url}/api/v1/stream", headers=given) as stream:
            assert await stream.content.readline() == b"event: reset\n"
            assert (await ask("POST", "/sign-out", b"", given)).status == 403
            gone = await ask("POST", "/sign-out", b"", {**given, "Origin": ask.url})
            assert (gone.status, gone.headers["location"]) == (303, "/")
            assert "Max-Age=0" in gone.headers["set-cookie"]
            assert (await ask("GET", "/api/v1/flows", headers=given)).status == 401
            assert (await ask("POST", "/api/v1/webhooks/q/w/k", {})).status == 202
            async with asyncio.timeout(20):
                rest = await stream.content.read()
            assert b"execution" not in rest


async def test_a_hub_without_a_token_has_no_sign_in(serving: Serve) -> None:
    async with serving() as ask:
        assert (await sign_in(ask, Origin=ask.url)).status == 404
        page = await ask("GET", "/", headers=_BROWSER)
        assert b'id="sign-out" hidden' in page.raw


async def test_a_page_that_a_flow_answers_is_not_the_hubs(serving: Serve) -> None:
    """It is shown, yet without the hub's cookie and without scripts."""
    flow = (
        "id: html\nnamespace: q\ntriggers:\n"
        "  - id: h\n    type: webhook\n    key: k\n    wait: true\n"
        '    respond: {body: "<h1>hi</h1>", headers: {Content-Type: text/html}}\n'
        "tasks: [{id: t, type: return, value: 1}]\n"
    )
    async with serving(_GUARDED) as ask:
        await ask.node.catalog.put(flow)
        answer = await ask("POST", "/api/v1/webhooks/q/html/k", {})
        assert (answer.status, answer.raw) == (200, b"<h1>hi</h1>")
        assert answer.headers["content-security-policy"].startswith("sandbox allow-forms")
        assert "allow-same-origin" not in answer.headers["content-security-policy"]
        assert "allow-scripts" not in answer.headers["content-security-policy"]


def test_a_session_ends_by_itself() -> None:
    now = 0.0
    sessions = Sessions(_TOKEN, now=lambda: now)
    name = sessions.cookie("x", over_tls=False).partition("=")[0]
    cookies = {name: sessions.open()}
    session = sessions.of(cookies)
    assert session is not None
    now = LIFETIME - 1
    assert sessions.of(cookies) is session
    now = LIFETIME
    assert sessions.of(cookies) is None
    assert not session.is_alive


def test_sessions_are_bounded_and_the_oldest_goes() -> None:
    sessions = Sessions(_TOKEN)
    name = sessions.cookie("x", over_tls=False).partition("=")[0]
    values = [sessions.open() for _ in range(1_001)]
    assert sessions.of({name: values[0]}) is None
    assert all(sessions.of({name: value}) is not None for value in values[1:])
