"""The task ``http.request``."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, ClassVar, Literal

import aiohttp
from pydantic import BaseModel, Field, field_validator, model_validator
from yarl import URL

from hub.plugin import Duration, Fail, Failed, Model, Task, TaskContext, jsontext

_SESSION = "http.session"


class BasicAuth(Model):
    """User name and password."""

    username: str = Field(description="The user name.")
    password: str = Field("", description="The password.")


class Auth(Model):
    """How the request proves who it is; one of both."""

    basic: BasicAuth | None = Field(None, description="User name and password.")
    bearer: str | None = Field(None, description="A token for `Authorization: Bearer`.")

    @model_validator(mode="after")
    def _one(self) -> Auth:
        if (self.basic is None) == (self.bearer is None):
            raise ValueError("give either basic or bearer")
        return self


class Request(Task):
    """Send an HTTP request."""

    type: ClassVar[str] = "http.request"
    examples: ClassVar[tuple[str, ...]] = (
        "id: fetch\ntype: http.request\nuri: https://example.test/orders\nquery: {day: '{{ inputs.day }}'}\n"
        "retry: {type: exponential, interval: PT1S, maxAttempts: 5}",
        "id: post\ntype: http.request\nuri: https://example.test/orders\nmethod: POST\njson: {id: 1}",
    )

    uri: str = Field(description="Where to, with http:// or https://.")
    method: Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"] = Field(
        "GET", description="The method."
    )
    headers: dict[str, str] = Field({}, description="Request headers.")
    query: dict[str, str | int | float | bool | list[str]] = Field(
        {}, description="Query parameters, added to those of the URI."
    )
    json_: Any = Field(None, alias="json", description="A body sent as JSON.")
    form: dict[str, str] | None = Field(None, description="A body sent as a form.")
    body: str | None = Field(None, description="A body sent as text.")
    auth: Auth | None = Field(None, description="Credentials.")
    request_timeout: Duration = Field(
        timedelta(seconds=60),
        description="How long one request may take; `timeout` bounds the whole attempt.",
    )
    allowed_statuses: list[int | str] = Field(
        ["2xx"], min_length=1, description="Statuses that mean success: numbers, or classes such as `2xx`."
    )
    follow_redirects: bool = Field(True, description="Follow redirects, at most ten.")
    max_body_bytes: int = Field(10 * 1024 * 1024, ge=1, description="The largest answer that is read.")

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

    @field_validator("allowed_statuses")
    @classmethod
    def _are_statuses(cls, value: list[int | str]) -> list[int | str]:
        for one in value:
            if not (str(one).isdigit() and 100 <= int(one) <= 599) and str(one).lower() not in _CLASSES:
                raise ValueError(f'"{one}" is not a status: write 204 or 2xx')
        return value

    @model_validator(mode="after")
    def _one_body(self) -> Request:
        if sum(given is not None for given in (self.json_, self.form, self.body)) > 1:
            raise ValueError("give only one of json, form and body")
        return self

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        url = URL(self.uri)
        if url.scheme not in ("http", "https") or not url.host:
            raise Fail(f'"{self.uri}" is not an http:// or https:// address')
        session = await ctx.shared(_SESSION, _open_session)
        try:
            return await self._send(session, url, ctx)
        except aiohttp.TooManyRedirects as error:
            raise Failed("more than ten redirects") from error
        except TimeoutError as error:
            raise Failed(
                f"no answer from {url.host} within {self.request_timeout.total_seconds():g} s"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(f"{self.method} {_shown(url)}: {error}") from error

    async def _send(self, session: aiohttp.ClientSession, url: URL, ctx: TaskContext) -> dict[str, Any]:
        async with session.request(
            self.method,
            url,
            params=_query(self.query) or None,
            headers=self._headers(ctx),
            data=self._body(),
            auth=self._basic(),
            allow_redirects=self.follow_redirects,
            timeout=aiohttp.ClientTimeout(total=self.request_timeout.total_seconds()),
        ) as answer:
            raw = await self._read(answer)
            outputs = {
                "status": answer.status,
                "headers": _headers(answer),
                "body": raw.decode(answer.charset or "utf-8", "replace"),
                "json": _json(answer, raw),
            }
        if not self._is_allowed(answer.status):
            text = str(outputs["body"]).strip().replace("\n", " ")[:200]
            raise Failed(
                f"{self.method} {_shown(url)} answered {answer.status} {answer.reason or ''}".rstrip()
                + (f": {text}" if text else ""),
                outputs=outputs,
            )
        return outputs

    def _headers(self, ctx: TaskContext) -> dict[str, str]:
        headers = {"User-Agent": "asynchub", **self.headers}
        names = {name.lower() for name in headers}
        if self.json_ is not None and "content-type" not in names:
            headers["Content-Type"] = "application/json"
        if self.auth is not None and self.auth.bearer is not None:
            headers["Authorization"] = f"Bearer {self.auth.bearer}"
        if self.method not in ("GET", "HEAD", "OPTIONS") and "idempotency-key" not in names:
            headers["Idempotency-Key"] = ctx.idempotency_key
        return headers

    def _body(self) -> Any:
        if self.json_ is not None:
            return jsontext.dump_bytes(self.json_)
        if self.form is not None:
            return aiohttp.FormData(self.form)
        return self.body

    def _basic(self) -> aiohttp.BasicAuth | None:
        if self.auth is None or self.auth.basic is None:
            return None
        return aiohttp.BasicAuth(self.auth.basic.username, self.auth.basic.password)

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        raw = b""
        async for chunk in answer.content.iter_chunked(64 * 1024):
            raw += chunk
            if len(raw) > self.max_body_bytes:
                raise Failed(f"the answer is larger than {self.max_body_bytes} bytes (maxBodyBytes)")
        return raw

    def _is_allowed(self, status: int) -> bool:
        return any(str(one).lower() in (str(status), f"{status // 100}xx") for one in self.allowed_statuses)


_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})


@asynccontextmanager
async def _open_session() -> AsyncIterator[aiohttp.ClientSession]:
    # no cookies: one execution's must never reach another's
    async with aiohttp.ClientSession(
        cookie_jar=aiohttp.DummyCookieJar(), connector=aiohttp.TCPConnector(limit=200)
    ) as session:
        yield session


def _query(query: dict[str, Any]) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for one in value if isinstance(value, list) else [value]:
            pairs.append((name, one if isinstance(one, str) else jsontext.dumps(one)))
    return pairs


def _headers(answer: aiohttp.ClientResponse) -> dict[str, str]:
    joined: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return joined


def _json(answer: aiohttp.ClientResponse, raw: bytes) -> Any:
    kind = answer.content_type
    if not raw or not (kind == "application/json" or kind.endswith("+json")):
        return None
    try:
        return jsontext.loads(raw)
    except (ValueError, RecursionError):
        return None


def _shown(url: URL) -> str:
    """An address without what may be secret in it."""
    return str(url.with_user(None).with_query(None).with_fragment(None))
