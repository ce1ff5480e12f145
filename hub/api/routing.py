"""A route table that also describes itself: from it come the aiohttp routes and the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web
from pydantic import BaseModel

from hub.api.bodies import read_body
from hub.engine.node import Node

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Query:
    """One query parameter, for the OpenAPI document."""

    name: str
    description: str
    type: str = "string"
    repeatable: bool = False


@dataclass(frozen=True)
class Route:
    """One route. ``is_open`` ones need no token; default is closed. ``GET`` answers ``HEAD`` as well."""

    method: str
    path: str
    handler: Handler
    summary: str
    answer: type[BaseModel] | None = None
    status: int = 200
    body: type[BaseModel] | None = None
    query: tuple[Query, ...] = ()
    is_open: bool = False
    acts: bool = False
    """Whether even a ``GET`` does something: then it answers no ``HEAD``."""
    media_type: str = "application/json"
    text_answer: str | None = None
    """A media type of text that is answered unless JSON is asked for."""
    text_body: str | None = None
    """A media type of text that is taken beside JSON."""


@dataclass(frozen=True)
class Call:
    """One request with the node it is for."""

    node: Node
    request: web.Request
    public_url: str

    def text(self, name: str) -> str | None:
        """A query parameter, None when absent or empty."""
        return self.request.query.get(name) or None

    async def body(self) -> bytes:
        """The request's body out of its content coding."""
        return await read_body(self.request)

    @property
    def path(self) -> Any:
        return self.request.match_info
