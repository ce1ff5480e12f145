"""What every task that sends an HTTP request has: where to, with what, and which answers are good ones."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import aiohttp
from pydantic import Field, field_validator, model_validator
from yarl import URL

from hub.plugin import Duration, Fail, Failed, Model, Task, TaskContext, jsontext

_SESSION = "http.session"
_CLASSES = frozenset({"1xx", "2xx", "3xx", "4xx", "5xx"})


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


class HttpTask(Task):
    """A task that sends a request."""

    uri: str = Field(description="Where to, with http:// or https://.")
    headers: dict[str, str] = Field({}, description="Request headers.")
    query: dict[str, str | int | float | bool | list[str]] = Field(
        {}, description="Query parameters, added to those of the URI."
    )
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

    @field_validator("allowed_statuses")
    @classmethod
    def _are_statuses(cls, value: list[int | str]) -> list[int | str]:
        for one in value:
            if not (str(one).isdigit() and 100 <= int(one) <= 599) and str(one).lower() not in _CLASSES:
                raise ValueError(f'"{one}" is not a status: write 204 or 2xx')
        return value

    @asynccontextmanager
    async def answer(
        self, ctx: TaskContext, method: str, *, headers: dict[str, str] | None = None, data: Any = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send the request and give the answer, whatever its status.

        Raises ``Fail`` for an address that is none, ``Failed`` for everything that goes wrong on the way,
        while the answer is read too.
        """
        url = URL(self.uri)
        if url.scheme not in ("http", "https") or not url.host:
            raise Fail(f'"{self.uri}" is not an http:// or https:// address')
        session = await ctx.shared(_SESSION, _open_session)
        try:
            async with session.request(
                method,
                url,
                params=_query(self.query) or None,
                headers=self._all_headers(headers or {}),
                data=data,
                auth=self._basic(),
                allow_redirects=self.follow_redirects,
                timeout=aiohttp.ClientTimeout(total=self.request_timeout.total_seconds()),
            ) as answer:
                yield answer
        except aiohttp.TooManyRedirects as error:
            raise Failed("more than ten redirects") from error
        except TimeoutError as error:
            raise Failed(
                f"no answer from {url.host} within {self.request_timeout.total_seconds():g} s"
            ) from error
        except aiohttp.ClientConnectorError as error:
            problem = error.os_error.strerror or str(error.os_error)
            raise Failed(
                f"{method} {shown(url)}: cannot connect to {error.host}:{error.port}: {problem}"
            ) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Failed(f"{method} {shown(url)}: {error}") from error

    def is_allowed(self, status: int) -> bool:
        return any(str(one).lower() in (str(status), f"{status // 100}xx") for one in self.allowed_statuses)

    def refusal(self, answer: aiohttp.ClientResponse, method: str, text: str) -> str:
        """What is wrong with an answer whose status is not allowed, with the beginning of its text."""
        line = f"{method} {shown(URL(self.uri))} answered {answer.status} {answer.reason or ''}".rstrip()
        text = text.strip().replace("\n", " ")[:200]
        return line + (f": {text}" if text else "")

    def too_large(self) -> Failed:
        return Failed(f"the answer is larger than {self.max_body_bytes} bytes (maxBodyBytes)")

    def _all_headers(self, defaults: dict[str, str]) -> dict[str, str]:
        given = {name.lower() for name in self.headers}
        headers = {
            name: value
            for name, value in {"User-Agent": "asynchub", **defaults}.items()
            if name.lower() not in given
        }
        headers.update(self.headers)
        if self.auth is not None and self.auth.bearer is not None:
            headers["Authorization"] = f"Bearer {self.auth.bearer}"
        return headers

    def _basic(self) -> aiohttp.BasicAuth | None:
        if self.auth is None or self.auth.basic is None:
            return None
        return aiohttp.BasicAuth(self.auth.basic.username, self.auth.basic.password)


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


def headers_of(answer: aiohttp.ClientResponse) -> dict[str, str]:
    """An answer's headers, names in lower case, several values of one name joined."""
    joined: dict[str, str] = {}
    for name, value in answer.headers.items():
        lower = name.lower()
        joined[lower] = f"{joined[lower]}, {value}" if lower in joined else value
    return joined


def shown(url: URL) -> str:
    """An address without what may be secret in it."""
    return str(url.with_user(None).with_query(None).with_fragment(None))
