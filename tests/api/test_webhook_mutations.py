"""50,000 signed requests changed at random, over real HTTP: each is 401 or 400, never taken and never a failure."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from hub.model import jsontext
from hub.model.ids import new_id
from plugins_core.webhook.signatures import Verify
from tests.api.conftest import Asking, Serve

SECRET = "whsec_c2VjcmV0LXNlY3JldC1zZWNyZXQ="
SCHEMES = ("github", "hmac", "stripe", "slack", "standard-webhooks")
EACH = 10_000
_AT_ONCE = 250
_SIGNED = {
    "github": ["X-Hub-Signature-256"],
    "hmac": ["X-Signature"],
    "stripe": ["Stripe-Signature"],
    "slack": ["X-Slack-Signature", "X-Slack-Request-Timestamp"],
    "standard-webhooks": ["webhook-id", "webhook-timestamp", "webhook-signature"],
}
"""The headers that a scheme's proof lies in; others are nobody's promise."""
_LETTERS = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def flow(scheme: str) -> str:
    return (
        f"id: {scheme}\nnamespace: m\ntriggers:\n"
        f"  - {{id: hook, type: webhook, key: k, verify: {{scheme: {scheme}, secret: {SECRET}}}}}\n"
        "tasks: [{id: t, type: return, value: 1}]\n"
    )


@dataclass
class Sent:
    """A request as it goes over the wire."""

    path: bytes
    headers: dict[str, bytes]
    body: bytes

    def raw(self, port: int) -> bytes:
        lines = [b"POST " + self.path + b" HTTP/1.1", b"Host: 127.0.0.1:%d" % port]
        lines += [name.encode() + b": " + value for name, value in self.headers.items()]
        lines += [b"Content-Length: %d" % len(self.body), b"", b""]
        return b"\r\n".join(lines) + self.body


def good(scheme: str, chance: random.Random) -> Sent:
    body = jsontext.dump_bytes(
        {"id": new_id(), "amount": chance.randrange(10**6), "to": "é" * chance.randrange(4)}
    )
    if chance.random() < 0.1:
        body = zlib.compress(body)
    verify = Verify.model_validate({"scheme": scheme, "secret": SECRET})
    headers = {name: value.encode() for name, value in verify.sign(body, datetime.now(UTC), new_id()).items()}
    headers["Content-Type"] = b"application/json"
    if body[:1] == b"x":
        headers["Content-Encoding"] = b"deflate"
    return Sent(f"/api/v1/webhooks/m/{scheme}/k".encode(), headers, body)


# -- what is changed; each answers what differs from what was given, however it is spelled


def _replaced(text: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(text))
    return text[:place] + bytes([chance.choice(_LETTERS)]) + text[place + 1 :]


def _inserted(text: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(text) + 1)
    return text[:place] + bytes([chance.choice(_LETTERS)]) + text[place:]


def _removed(text: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(text))
    return text[:place] + text[place + 1 :]


def _cut(text: bytes, chance: random.Random) -> bytes:
    return text[: chance.randrange(len(text))]


def _swapped(text: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(max(1, len(text) - 1))
    return text[:place] + text[place : place + 2][::-1] + text[place + 2 :]


def _garbage(text: bytes, chance: random.Random) -> bytes:
    return bytes(
        chance.choice([*range(0x20, 0x7F), *range(0x80, 0x100)]) for _ in range(chance.randrange(200))
    )


def _pieces(text: bytes, chance: random.Random) -> bytes:
    known = [b"t=", b"v0=", b"v1=", b"v1,", b"sha256=", b",", b" ", b"=", b"00", b"1", b"\xff", text]
    return b"".join(chance.choice(known[:-1]) for _ in range(chance.randrange(12)))


_CHANGES: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _replaced, _inserted, _removed, _cut, _swapped, _garbage, _pieces
)  # fmt: skip


def changed(sent: Sent, scheme: str, chance: random.Random) -> Sent | None:
    """One that nobody signed, or None where the change changed nothing."""
    headers, body = dict(sent.headers), sent.body
    name = chance.choice([*_SIGNED[scheme], ""])
    if not name:
        body = chance.choice(_CHANGES)(body, chance)
    elif chance.random() < 0.1:
        del headers[name]
    else:
        headers[name] = chance.choice(_CHANGES)(headers[name], chance)
    same = name and headers.get(name, b"").strip().lower() == sent.headers[name].strip().lower()
    if same or (not name and body == sent.body):
        return None  # a signature in capitals is the same
    if chance.random() < 0.2:
        garbage = chance.choice((_garbage, _pieces))(b"text/plain", chance)
        headers["Content-Type"] = garbage + chance.choice([b"", b"; x*", b";charset*=", b"; boundary="])
    if chance.random() < 0.1:
        headers["Content-Encoding"] = chance.choice([b"gzip", b"deflate", b"identity", b""])
    return Sent(sent.path, headers, body)


async def statuses(port: int, requests: list[bytes]) -> list[int]:
    """Send requests one behind the other on one connection; the status of each answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.writelines(requests)
        found = []
        for _ in requests:
            head = await reader.readuntil(b"\r\n\r\n")
            found.append(int(head.split(b" ", 2)[1]))
            [length] = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
            await reader.readexactly(int(length.partition(b":")[2]))
        return found
    finally:
        writer.close()
        await writer.wait_closed()


async def _round(ask: Asking, scheme: str, chance: random.Random) -> Counter[int]:
    found: Counter[int] = Counter()
    while found.total() < EACH:
        sent = [one for _ in range(_AT_ONCE) if (one := changed(good(scheme, chance), scheme, chance))]
        raw = [one.raw(ask.port) for one in sent[: EACH - found.total()]]
        for request, status in zip(raw, await statuses(ask.port, raw), strict=True):
            assert status in (400, 401), (status, request)
            found[status] += 1
    return found


@pytest.mark.timeout(240)
@pytest.mark.parametrize("scheme", SCHEMES)
async def test_no_change_of_a_signed_request_is_taken_or_fails(serving: Serve, scheme: str) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    async with serving() as ask:
        await ask.node.catalog.put(flow(scheme))
        unchanged = [good(scheme, chance).raw(ask.port) for _ in range(20)]
        assert set(await statuses(ask.port, unchanged)) == {202}
        stored = len((await ask("GET", "/api/v1/events?limit=1000")).json["items"])
        found = await _round(ask, scheme, chance)
        assert found.total() == EACH
        assert found[401] > EACH / 2
        assert len((await ask("GET", "/api/v1/events?limit=1000")).json["items"]) == stored == 20
