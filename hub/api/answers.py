"""Answers: JSON out, errors in one shape, secrets masked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from aiohttp import HttpVersion11, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.helpers import rfc822_formatted_time
from aiohttp.http import SERVER_SOFTWARE
from multidict import CIMultiDict
from pydantic import BaseModel

from hub.api.views.base import View
from hub.engine.secrets import SecretVault
from hub.errors import (
    Conflict,
    Denied,
    HubError,
    InvalidFlow,
    InvalidInput,
    NotFound,
    Problem,
    StorageOverloaded,
    StorageUnavailable,
    TooLarge,
    TriggerUnusable,
)
from hub.model import jsontext

_JSON = "application/json"
_LARGE = 256 * 1024
_YAML = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
SECURITY_HEADERS: Mapping[str, str] = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""On every answer."""
_SMALL = CIMultiDict({"Content-Type": _JSON, **SECURITY_HEADERS, "Server": SERVER_SOFTWARE})

_STATUS: tuple[tuple[type[HubError], int], ...] = (
    (NotFound, 404),
    (Conflict, 409),
    (Denied, 403),
    (TooLarge, 413),
    (InvalidInput, 422),
    (StorageOverloaded, 503),
    (StorageUnavailable, 503),
    (TriggerUnusable, 503),
)


class SmallAnswer(web.Response):
    """JSON of a few bytes with the headers of every answer: it is known what to write without looking at anything.

    What the server makes of an answer before it writes it takes longer than all that the hub does to a request.
    """

    def __init__(self, body: bytes, status: int) -> None:
        super().__init__(body=body, status=status, headers=_SMALL)
        self.length = len(body)

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        goes_on = request.keep_alive and self.keep_alive is not False and request.version == HttpVersion11
        if self.prepared or not goes_on:
            return await super().prepare(request)
        self._req, self._payload_writer = request, request.writer
        self._keep_alive, self._must_be_empty_body = True, False
        self.headers["Content-Length"] = str(self.length)
        self.headers["Date"] = rfc822_formatted_time()
        await request.writer.write_headers(f"HTTP/1.1 {self.status} {self.reason}", self.headers)
        return request.writer


class Refusal(Exception):
    """An answer that ends a request, in the one shape of errors; for what HTTP has a status of its own."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.headers = headers

    def answer(self) -> web.Response:
        made = error_answer(self.status, self.code, self.message, hint=self.hint, headers=self.headers)
        if self.status == 408:
            made.force_close()
        return made


def json_answer(value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """A JSON answer."""
    return web.Response(body=jsontext.dump_bytes(value), status=status, content_type=_JSON, headers=headers)


def model_answer(model: BaseModel, *, status: int = 200) -> web.Response:
    """A view as JSON, for what can hold no secret."""
    return json_answer(model.model_dump(by_alias=True), status=status)


async def masked_answer(view: View, vault: SecretVault, *, status: int = 200) -> web.Response:
    """A view as JSON without any secret value; a large one is searched beside the loop."""
    raw = jsontext.dump_bytes(view.model_dump(by_alias=True))
    if len(raw) > _LARGE:
        raw = await asyncio.to_thread(_masked, view, raw, vault)
    else:
        raw = _masked(view, raw, vault)
    return web.Response(body=raw, status=status, content_type=_JSON)


def masked_text(view: View, vault: SecretVault) -> bytes:
    """A view as JSON text without any secret value."""
    return _masked(view, jsontext.dump_bytes(view.model_dump(by_alias=True)), vault)


def masked_data(view: View, vault: SecretVault) -> dict[str, Any]:
    """A view as plain data without any secret value."""
    return view.masked(vault.mask_data)


def _masked(view: View, raw: bytes, vault: SecretVault) -> bytes:
    # most answers hold no secret: then the text is right as it is
    return jsontext.dump_bytes(view.masked(vault.mask_data)) if vault.shows_in(raw.decode()) else raw


def error_answer(
    status: int,
    code: str,
    message: str,
    *,
    hint: str | None = None,
    details: Any = None,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """An error in the one shape: code, message, hint, details."""
    body = {"code": code, "message": message, "hint": hint, "details": details}
    return json_answer(body, status=status, headers=headers)


def answer_for(error: HubError, vault: SecretVault) -> web.Response:
    """The answer that an error of ours means."""
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    details = None
    if isinstance(error, InvalidFlow):
        details = [problem_view(problem) for problem in error.problems]
    headers = {"Retry-After": "1"} if status == 503 else None
    return error_answer(
        status,
        error.code,
        vault.mask(error.message),
        hint=vault.mask(error.hint) if error.hint else None,
        details=details,
        headers=headers,
    )


def prefers_json(accept: str) -> bool:
    """Whether an ``Accept`` header names JSON, and before YAML; anything (``*/*``) is no preference."""
    weights: dict[str, float] = {}
    for part in accept.lower().split(","):
        name, *parameters = (word.strip() for word in part.split(";"))
        given = next((word[2:] for word in parameters if word.startswith("q=")), "1")
        try:
            weights[name] = float(given)
        except ValueError:
            weights[name] = 0.0
    return weights.get(_JSON, 0.0) > max(weights.get(name, 0.0) for name in _YAML)


def problem_view(problem: Problem) -> dict[str, Any]:
    """A finding as API and JSON output show it."""
    return {
        "file": problem.file,
        "line": problem.position.line,
        "column": problem.position.column,
        "severity": problem.severity,
        "message": problem.message,
        "hint": problem.hint,
    }
