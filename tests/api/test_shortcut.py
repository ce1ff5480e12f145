"""The short way of a webhook's request: the same answer, byte for byte, as by the way of every other."""

from __future__ import annotations

import asyncio
import re
from itertools import product

import pytest

from hub.api.shortcut import Shortcut
from tests.api.conftest import Asking, Serve

FLOW = """id: w
namespace: q
triggers:
  - {id: a, type: webhook, key: k, methods: [GET, POST], dedup: {key: "{{ trigger.headers['x-id'] ?? null }}"}}
  - {id: b, type: webhook, key: page, respond: {status: 200, body: "<p>hi</p>", headers: {Content-Type: text/html}}}
  - {id: c, type: webhook, key: signed, verify: {scheme: hmac, secret: s3cret}}
tasks: [{id: t, type: return, value: 1}]
"""
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
PATHS = (
    "q/w/k",
    "q/w/page",
    "q/w/signed",
    "q/w/nothing",
    "q/none/k",
    "q/w/k?a=1&a=2&b=",
    "q/w/k/",
    "q/w",
    "q//k",
    "q/w/..",
)
HEADERS = (
    "",
    "Origin: https://elsewhere.example\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Connection: close\r\n",
    "Content-Encoding: br\r\n",
    "Authorization: Bearer wrong\r\n",
    "Expect: 100-continue\r\n",
    "Expect: miracles\r\n",
)
_CHANGING = re.compile(rb"Date: [^\r]*|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f-]{22}")


async def _said(
    ask: Asking, method: str, path: str, more: str, version: str = "1.1", body: str = '{"n":1}'
) -> bytes:
    """Everything that the hub says on a connection that ends with this request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", ask.port)
    if version == "1.1" and "Connection" not in more:
        more += "Connection: close\r\n" if method != "POST" else ""
    head = f"{method} /api/v1/webhooks/{path} HTTP/{version}\r\nHost: 127.0.0.1:{ask.port}\r\n{more}"
    writer.write(
        f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()
    )
    try:
        said = b""
        async with asyncio.timeout(10):
            while chunk := await reader.read(65536):
                said += chunk
                if method == "POST" and b"close" not in more.encode() and _is_whole(said):
                    break
    finally:
        writer.close()
    return _CHANGING.sub(b"*", said)


def _is_whole(said: bytes) -> bool:
    while said.startswith(b"HTTP/1.1 100"):
        said = said.partition(b"\r\n\r\n")[2]
    head, end, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", head)
    return bool(end) and length is not None and len(body) >= int(length[1])


def _roundabout(path: str) -> str:
    """The same path, spelled so that only the router reads it."""
    return path.replace("q", "%71", 1)


@pytest.mark.parametrize("token", [None, "open"])
@pytest.mark.parametrize("method", METHODS)
async def test_every_request_is_answered_as_by_the_router(
    serving: Serve, method: str, token: str | None
) -> None:
    async with serving({"HUB_TOKEN": token} if token else {}) as ask:
        await ask.node.catalog.put(FLOW)
        for path, more, version in product(PATHS, HEADERS, ("1.1", "1.0")):
            short = await _said(ask, method, path, more, version)
            assert short == await _said(ask, method, _roundabout(path), more, version), (path, more, version)
            assert short.startswith(b"HTTP/1.")


async def test_an_answer_has_the_headers_of_every_answer(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(FLOW)
        answer = await ask("POST", "/api/v1/webhooks/q/w/k", {"n": 1})
    assert answer.status == 202
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert int(answer.headers["content-length"]) == len(answer.raw)
    assert "GMT" in answer.headers["date"]


async def test_a_body_that_comes_late_is_read_whole(serving: Serve) -> None:
    async with serving() as ask:
        await ask.node.catalog.put(FLOW)
        reader, writer = await asyncio.open_connection("127.0.0.1", ask.port)
        head = f"POST /api/v1/webhooks/q/w/k HTTP/1.1\r\nHost: 127.0.0.1:{ask.port}\r\nContent-Type: application/json"
        writer.write(f"{head}\r\nContent-Length: 8\r\n\r\n".encode())
        await asyncio.sleep(0.1)
        writer.write(b'{"n": 7}')
        assert b" 202 " in await reader.readline()
        writer.close()
        [event] = (await ask("GET", "/api/v1/events")).json["items"]
        shown = (await ask("GET", f"/api/v1/events/{event['id']}")).json
    assert shown["data"]["body"] == {"n": 7}


async def test_plain_requests_take_the_short_way(serving: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the other tests compare are two ways indeed."""
    taken: list[bool] = []
    whole = Shortcut.__call__

    def counting(self: Shortcut, request: object) -> object:
        found = whole(self, request)  # type: ignore[arg-type]
        taken.append(found is not None)
        return found

    monkeypatch.setattr(Shortcut, "__call__", counting)
    async with serving() as ask:
        await ask.node.catalog.put(FLOW)
        await _said(ask, "POST", "q/w/k", "")
        await _said(ask, "POST", _roundabout("q/w/k"), "")
        await _said(ask, "POST", "q/w/k", "Expect: 100-continue\r\n")
    assert taken == [True, False, False]
