"""The task ``http.request``."""

from __future__ import annotations

import asyncio
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO, ClassVar, Literal

import aiohttp
from pydantic import BaseModel, Field, field_validator, model_validator

from hub.plugin import Failed, TaskContext, jsontext
from plugins_core.http.sending import HttpTask, headers_of


class Request(HttpTask):
    """Send an HTTP request."""

    type: ClassVar[str] = "http.request"
    examples: ClassVar[tuple[str, ...]] = (
        "id: fetch\ntype: http.request\nuri: https://example.test/orders\nquery: {day: '{{ inputs.day }}'}\n"
        "retry: {type: exponential, interval: PT1S, maxAttempts: 5}",
        "id: post\ntype: http.request\nuri: https://example.test/orders\nmethod: POST\njson: {id: 1}",
        "id: hand_on\ntype: http.request\nuri: https://example.test/photos\nmethod: POST\n"
        "file: '{{ trigger.body.photo.uri }}'\nheaders: {Content-Type: image/jpeg}",
    )

    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        "GET", description="The method."
    )
    json_: Any = Field(None, alias="json", description="A body sent as JSON.")
    form: dict[str, str] | None = Field(None, description="A body sent as a form.")
    body: str | None = Field(None, description="A body sent as text.")
    file: str | None = Field(
        None, description="A body out of the file store, `trigger.body.photo.uri`, sent as it is."
    )

    class Output(BaseModel):
        status: int = Field(description="The status code.")
        headers: dict[str, str] = Field(description="The answer's headers, names in lower case.")
        body: str = Field(description="The answer as text.")
        json_: Any = Field(None, alias="json", description="The answer as data; null where it is not JSON.")

    @field_validator("uri")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.lower().startswith(("http://", "https://")):
            raise ValueError(f'"{value[:60]}" is not an http:// or https:// address')
        return value

    @field_validator("method", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_body(self) -> Request:
        if sum(given is not None for given in (self.json_, self.form, self.body, self.file)) > 1:
            raise ValueError("give only one of json, form, body and file")
        return self

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        with await self._stored(ctx) as file:
            data = self._body() if file is None else file
            async with self.answer(ctx, self.method, headers=self._headers(ctx), data=data) as answer:
                raw = await self._read(answer)
        outputs = {
            "status": answer.status,
            "headers": headers_of(answer),
            "body": _text(answer, raw),
            "json": _json(answer, raw),
        }
        if not self.is_allowed(answer.status):
            raise Failed(self.refusal(answer, self.method, str(outputs["body"])), outputs=outputs)
        return outputs

    async def _stored(self, ctx: TaskContext) -> AbstractContextManager[BinaryIO | None]:
        """The file to be sent, open; it is read while it is sent."""
        if self.file is None:
            return nullcontext()
        path = await ctx.files.path(self.file)
        return await asyncio.to_thread(path.open, "rb")

    def _headers(self, ctx: TaskContext) -> dict[str, str]:
        headers: dict[str, str] = {}
        if self.file is not None:
            headers["Content-Type"] = "application/octet-stream"
        if self.json_ is not None:
            headers["Content-Type"] = "application/json"
        if self.method not in ("GET", "HEAD", "OPTIONS"):
            headers["Idempotency-Key"] = ctx.idempotency_key
        return headers

    def _body(self) -> Any:
        if self.json_ is not None:
            return jsontext.dump_bytes(self.json_)
        if self.form is not None:
            return aiohttp.FormData(self.form)
        return self.body

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        raw = bytearray()
        async for chunk in answer.content.iter_chunked(64 * 1024):
            raw += chunk
            if len(raw) > self.max_body_bytes:
                raise self.too_large()
        return bytes(raw)


def _text(answer: aiohttp.ClientResponse, raw: bytes) -> str:
    try:
        return raw.decode(answer.charset or "utf-8", "replace")
    except LookupError:
        return raw.decode("utf-8", "replace")  # the answer names a character set that nobody knows


def _json(answer: aiohttp.ClientResponse, raw: bytes) -> Any:
    kind = answer.content_type
    if not raw or not (kind == "application/json" or kind.endswith("+json")):
        return None
    try:
        return jsontext.loads_bounded(raw)
    except ValueError:
        return None
