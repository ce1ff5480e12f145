"""/api/v1/stream: what changes, as server-sent events, replayed after ``Last-Event-ID``.

Each event says that something changed, not what it is now: whoever shows it asks for it. ``id`` stands at the
end of a commit's events, so one that broke off in between is sent again whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Hashable, Iterator, Sequence
from contextlib import aclosing, suppress

from aiohttp import web

from hub.api.answers import SECURITY_HEADERS, error_answer
from hub.api.routing import Call, Query, Route
from hub.api.server import mark_endless
from hub.api.sessions import may_go_on
from hub.engine.live import Gap
from hub.errors import InvalidInput
from hub.model import jsontext
from hub.plugin.storage import Change, ChangeSet

_TOPICS = ("execution", "event", "flow", "notice")
_MOST_STREAMS = 1_000
_PIECE = 64 * 1024
_TEXTS = 4 * 1024 * 1024
"""Bytes of texts that are kept for the next reader."""
_WRITE_TIMEOUT = 30.0
_NUMBER = re.compile(r"[0-9]{1,19}", re.ASCII)
_HEADERS = {
    **SECURITY_HEADERS,
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-store, no-transform",
    "X-Accel-Buffering": "no",
}


class _Wanted:
    """Which changes a reader asked for."""

    def __init__(self, call: Call) -> None:
        topics = [one for text in call.request.query.getall("topic", []) for one in text.split(",") if one]
        for topic in topics:
            if topic not in _TOPICS:
                raise InvalidInput(f'unknown topic "{topic}"', hint=f"one of {', '.join(_TOPICS)}")
        self._topics = frozenset(topics or _TOPICS)
        self._namespace, self._flow = call.flow_wanted()
        self._id = call.text("id")
        self.name: Hashable = (self._topics, self._namespace, self._flow, self._id)
        """What two readers have in common who want the same."""

    def __contains__(self, change: Change) -> bool:
        if change.topic not in self._topics or self._id not in (None, change.id):
            return False
        if self._namespace is None and self._flow is None:
            return True
        namespace, _, flow = (change.flow or "").partition("/")
        return self._namespace in (None, namespace) and self._flow in (None, flow)


async def stream(call: Call) -> web.StreamResponse:
    wanted, after = _Wanted(call), _after(call)
    live = call.node.live
    if live.watchers >= _MOST_STREAMS:
        return error_answer(
            503, "too_many_streams", f"{_MOST_STREAMS} streams are open", headers={"Retry-After": "5"}
        )
    answer = web.StreamResponse(headers=_HEADERS)
    await answer.prepare(call.request)
    if call.request.method == "HEAD":
        return answer
    mark_endless(call.request)
    # whoever has gone is noticed by the next write
    with suppress(ConnectionError, TimeoutError):
        async with aclosing(live.follow(after)) as found:
            async for items in found:
                if not may_go_on(call.request):
                    break
                for piece in _pieces(items, wanted, call.request.app[TEXTS]):
                    async with asyncio.timeout(_WRITE_TIMEOUT):
                        await answer.write(piece)
    return answer


def _after(call: Call) -> int | None:
    text = call.request.headers.get("Last-Event-ID") or call.text("lastEventId")
    if text is None:
        return None
    if not _NUMBER.fullmatch(text) or int(text) >= 2**63:
        raise InvalidInput(f'Last-Event-ID is a number that this stream gave, got "{text[:40]}"')
    return int(text)


def _pieces(items: Sequence[ChangeSet | Gap], wanted: _Wanted, texts: Texts) -> Iterator[bytes]:
    """What is written of them, in pieces that a slow reader may take its time for."""
    piece = bytearray() if items else bytearray(b": still here\n\n")
    for item in items:
        piece += texts.of(item, wanted) if isinstance(item, ChangeSet) else _reset(item)
        if len(piece) >= _PIECE:
            yield bytes(piece)
            piece.clear()
    if piece:
        yield bytes(piece)


def _reset(gap: Gap) -> bytes:
    # nothing is known of what came before: show everything anew
    return f"event: reset\nid: {gap.number}\ndata: {{}}\n\n".encode()


class Texts:
    """What was said last: readers who want the same are told in the same words, which are made once."""

    def __init__(self) -> None:
        self._made: dict[tuple[Hashable, int], bytes] = {}
        self._bytes = 0

    def of(self, item: ChangeSet, wanted: _Wanted) -> bytes:
        """A commit's events, with its number at their end."""
        name = (wanted.name, item.number)
        text = self._made.get(name)
        if text is None:
            text = self._made[name] = _text(item, wanted)
            self._bytes += len(text)
            while self._bytes > _TEXTS:
                self._bytes -= len(self._made.pop(next(iter(self._made))))
        return text


TEXTS = web.AppKey("stream_texts", Texts)


def _text(item: ChangeSet, wanted: _Wanted) -> bytes:
    blocks = [
        f"event: {change.topic}\ndata: {_data(change, item)}\n\n"
        for change in item.changes
        if change in wanted
    ]
    # an id alone is remembered by the reader and shown to nobody
    return ("".join(blocks) + f"id: {item.number}\n\n").encode()


def _data(change: Change, item: ChangeSet) -> str:
    return jsontext.dumps(
        {"id": change.id, "state": change.state, "flow": change.flow, "at": item.at.isoformat()}
    )


ROUTES = (
    Route(
        "GET",
        "/api/v1/stream",
        stream,
        "What changes, as server-sent events; goes on after `Last-Event-ID`.",
        query=(
            Query("topic", "Only `execution`, `event`, `flow` or `notice`.", repeatable=True),
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id, or the one of this name, `NAMESPACE/ID`."),
            Query("id", "Only this execution, event, flow or notice."),
            Query("lastEventId", "As the header `Last-Event-ID`."),
        ),
        media_type="text/event-stream",
    ),
)
