"""A client of the hub's HTTP API; its errors are the hub's own, told apart by status."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from types import TracebackType
from typing import Any

import aiohttp

from hub.client.stream import Commit, read_commits
from hub.errors import (
    Conflict,
    Denied,
    HubError,
    InvalidFlow,
    InvalidInput,
    NotFound,
    Position,
    Problem,
    StorageUnavailable,
    TooLarge,
    Unreachable,
)
from hub.model import jsontext
from hub.model.ids import FlowKey

_ERRORS: Mapping[int, type[HubError]] = {
    400: InvalidInput,
    401: Denied,
    403: Denied,
    404: NotFound,
    409: Conflict,
    413: TooLarge,
    421: Denied,
    422: InvalidInput,
    503: StorageUnavailable,
}
Query = Sequence[tuple[str, str]]
_SILENCE = 45.0
"""Seconds without a word, of which there is one every 15, after which a stream's other end has gone."""


class HubClient:
    """Talks to one hub. Every call raises the ``HubError`` that the answer means, ``Unreachable`` without one."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = url.rstrip("/")
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._session = aiohttp.ClientSession(
            headers=headers, timeout=aiohttp.ClientTimeout(total=None, connect=10, sock_read=None)
        )

    async def __aenter__(self) -> HubClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def get(self, path: str, query: Query = ()) -> Any:
        """The JSON behind a path of ``/api/v1``."""
        return await self._call("GET", path, query=query)

    async def post(self, path: str, body: Any = None) -> Any:
        """Post JSON and answer JSON."""
        return await self._call("POST", path, body=body)

    async def delete(self, path: str) -> None:
        """Delete what is behind a path."""
        await self._raw("DELETE", path)

    async def emit(self, event: Mapping[str, Any]) -> Any:
        """Send one CloudEvent; answers what became of it. Raises ``Conflict``, ``InvalidInput``."""
        raw = await self._raw(
            "POST",
            "/events",
            data=jsontext.dump_bytes(event),
            content_type="application/cloudevents+json",
        )
        return jsontext.loads(raw)["items"][0]

    async def flow(self, key: FlowKey, revision: int | None = None) -> Any:
        """A flow's source with its revision, of the newest one by default."""
        query = [("revision", str(revision))] if revision is not None else []
        return jsontext.loads(await self._raw("GET", _flow_path(key), query=query, accept="application/json"))

    async def flow_source(self, key: FlowKey, revision: int | None = None) -> bytes:
        """A flow's source byte for byte, of its newest revision by default."""
        query = [("revision", str(revision))] if revision is not None else []
        return await self._raw("GET", _flow_path(key), query=query)

    async def put_flow(self, key: FlowKey, source: bytes) -> Any:
        """Create or change a flow. Raises ``InvalidFlow`` with what the hub finds wrong, ``Conflict``."""
        raw = await self._raw("PUT", _flow_path(key), data=source, content_type="application/yaml")
        return jsontext.loads(raw)

    async def delete_flow(self, key: FlowKey) -> None:
        """Take a flow out of use. Raises ``NotFound``, ``Conflict``."""
        await self._raw("DELETE", _flow_path(key))

    async def deliver(self, url: str, body: Any) -> tuple[int, Any]:
        """Post JSON to a webhook's own URL; answers the status and the JSON."""
        try:
            async with self._session.post(url, json=body) as answer:
                await self._check(answer)
                return answer.status, jsontext.loads(await answer.read())
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    async def lines(self, path: str, query: Query = ()) -> AsyncIterator[Any]:
        """The JSON lines of a stream, as they come, each once: what breaks off, in a reload, is asked for again."""
        seen: set[int] = set()
        while True:
            before = len(seen)
            try:
                async with self._session.get(self._address(path), params=list(query)) as answer:
                    await self._check(answer)
                    async for line in answer.content:
                        if line.strip() and hash(line) not in seen:
                            seen.add(hash(line))
                            yield jsontext.loads(line)
                    return
            except aiohttp.ClientPayloadError as error:
                if len(seen) == before:
                    raise self._unreachable(error) from error
            except aiohttp.ClientError as error:
                raise self._unreachable(error) from error

    async def stream(self, query: Query = (), after: int | None = None) -> AsyncGenerator[Commit, None]:
        """What changes, commit by commit, from ``after`` on; ends with the hub. Raises ``Unreachable``."""
        headers = {"Last-Event-ID": str(after)} if after is not None else {}
        timeout = aiohttp.ClientTimeout(total=None, connect=10, sock_read=_SILENCE)
        try:
            async with self._session.get(
                self._address("/stream"), params=list(query), headers=headers, timeout=timeout
            ) as answer:
                await self._check(answer)
                async for commit in read_commits(answer.content):
                    yield commit
        except (aiohttp.ClientError, TimeoutError) as error:
            raise self._unreachable(error) from error

    async def _call(self, method: str, path: str, *, query: Query = (), body: Any = None) -> Any:
        data = None if body is None else jsontext.dump_bytes(body)
        raw = await self._raw(method, path, query=query, data=data, content_type="application/json")
        return jsontext.loads(raw) if raw else None

    async def _raw(
        self,
        method: str,
        path: str,
        *,
        query: Query = (),
        data: bytes | None = None,
        content_type: str | None = None,
        accept: str | None = None,
    ) -> bytes:
        headers = {"Content-Type": content_type} if data is not None and content_type else {}
        if accept is not None:
            headers["Accept"] = accept
        try:
            async with self._session.request(
                method, self._address(path), params=list(query), data=data, headers=headers
            ) as answer:
                await self._check(answer)
                return await answer.read()
        except aiohttp.ClientError as error:
            raise self._unreachable(error) from error

    def _address(self, path: str) -> str:
        return f"{self.url}/api/v1{path}"

    def _unreachable(self, error: Exception) -> Unreachable:
        return Unreachable(
            f"no hub answers at {self.url}: {_reason(error)}",
            hint="start one with: hub serve, or name one with --server URL",
        )

    @staticmethod
    async def _check(answer: aiohttp.ClientResponse) -> None:
        if answer.status < 400:
            return
        raw = await answer.read()
        try:
            said = jsontext.loads(raw)
            message, hint = str(said["message"]), said.get("hint")
        except (ValueError, KeyError, TypeError):
            said, hint = {}, None
            message = f"the hub answered {answer.status} {answer.reason}"
        if said.get("code") == InvalidFlow.code and said.get("details"):
            raise InvalidFlow([_problem(one) for one in said["details"]])
        raise _ERRORS.get(answer.status, HubError)(message, hint=hint)


def _reason(error: Exception) -> str:
    """What the system says of it, where it says anything: "connection refused"."""
    cause = getattr(error, "os_error", None)
    if not isinstance(cause, OSError):
        return str(error) or type(error).__name__
    # a name that is not found has a number of its own kind, below zero
    number = cause.errno or 0
    known = os.strerror(number) if number > 0 else cause.strerror
    return (known or str(cause)).lower()


def _flow_path(key: FlowKey) -> str:
    return f"/flows/{key.namespace}/{key.id}"


def _problem(found: Mapping[str, Any]) -> Problem:
    position = Position(found["line"], found["column"])
    return Problem(found["message"], position, found.get("hint"), found["severity"], found.get("file"))
