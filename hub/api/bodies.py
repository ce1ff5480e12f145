"""Request bodies: read within a time and a size, and taken out of their content coding.

The server leaves bodies as they came over the wire, because signatures are made over those very bytes.
"""

from __future__ import annotations

import asyncio
import zlib
from datetime import timedelta

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from hub.api.answers import Refusal

REQUEST_TIMEOUT = web.AppKey("request_timeout", timedelta)
"""How long the application waits for a whole body."""

_GZIP = 16 + zlib.MAX_WBITS
_ZLIB = zlib.MAX_WBITS
_BARE = -zlib.MAX_WBITS


async def read_raw(request: web.Request) -> bytes:
    """The body as it came over the wire. Raises ``Refusal`` for one that is broken or does not come."""
    try:
        if request.content.is_eof():
            return await request.read()  # it came together with its head
        async with asyncio.timeout(request.app[REQUEST_TIMEOUT].total_seconds()):
            return await request.read()
    except TimeoutError:
        seconds = request.app[REQUEST_TIMEOUT].total_seconds()
        raise Refusal(408, "timeout", f"the body did not come within {seconds:g} seconds") from None
    except (HttpProcessingError, web.RequestPayloadError) as error:
        raise Refusal(400, "bad_request", "the body is not what its head says: it cannot be read") from error


async def read_body(request: web.Request) -> bytes:
    """The body out of its content coding."""
    return decoded(request, await read_raw(request))


def decoded(request: web.Request, raw: bytes) -> bytes:
    """``raw`` out of the request's content coding, bounded. Raises ``Refusal``."""
    coding = request.headers.get("Content-Encoding")
    if coding is None or not raw:
        return raw
    most = request.client_max_size
    match ", ".join(request.headers.getall("Content-Encoding")).strip().lower():
        case "" | "identity":
            return raw
        case "gzip" | "x-gzip":
            return _inflated(raw, "gzip", _GZIP, most)
        case "deflate":
            # the name stands for a zlib stream; some senders leave zlib's frame away
            framed = len(raw) > 1 and raw[0] & 0x0F == 8 and (raw[0] << 8 | raw[1]) % 31 == 0
            return _inflated(raw, "deflate", _ZLIB if framed else _BARE, most)
        case other:
            raise Refusal(
                415,
                "unknown_coding",
                f'the content encoding "{other[:40]}" is not known here',
                hint="send gzip, deflate or none",
                headers={"Accept-Encoding": "gzip, deflate"},
            )


def _inflated(raw: bytes, coding: str, window: int, most: int) -> bytes:
    """One whole compressed stream and nothing after it; no more than ``most`` bytes of it are made."""
    machine = zlib.decompressobj(window)
    try:
        content = machine.decompress(raw, most + 1)
    except zlib.error as error:
        raise Refusal(400, "bad_encoding", f"the body is not {coding}") from error
    if len(content) > most:
        raise too_large(most)
    if not machine.eof or machine.unused_data:
        raise Refusal(400, "bad_encoding", f"the body is not one whole {coding} stream")
    return content


def too_large(most: int) -> Refusal:
    """The answer to a body over the limit."""
    return Refusal(413, "too_large", f"the body is larger than {most} bytes")
