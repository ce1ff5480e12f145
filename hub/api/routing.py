"""A route table that also describes itself: from it come the aiohttp routes and the OpenAPI document."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from hub.api.bodies import read_body
from hub.config.components import field_names, message_of
from hub.engine.node import Node
from hub.errors import InvalidInput, did_you_mean
from hub.model import frozen, jsontext

B = TypeVar("B", bound=BaseModel)
Handler = Callable[["Call"], Awaitable[web.StreamResponse]]

_WHOLE = re.compile(r"[0-9]{1,19}", re.ASCII)
_FLAGS = {"true": True, "false": False}


@dataclass(frozen=True)
class Query:
    """One query parameter: what is checked of it, and what the OpenAPI document says."""

    name: str
    description: str
    type: str = "string"
    repeatable: bool = False
    least: int = 0
    most: int = 2**63 - 1
    pattern: str | None = None


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
    lines_answer: str | None = None
    """A media type of lines that is answered where the query asks to follow."""
    bodies: Mapping[str, Any] = field(default_factory=dict)
    """More media types of a body, each with its JSON Schema."""
    any_body: bool = False
    """Whether a body of any other media type is taken as well."""
    also: tuple[int, ...] = ()
    """Other statuses whose answer has the same model."""
    is_hidden: bool = False
    """Whether it is left out of the OpenAPI document: it only says that the method is none here."""


class Way(NamedTuple):
    """What a request's path was found to be: the pattern of a route, and what stands for the names in it."""

    pattern: str
    names: Mapping[str, str]


def way_of(request: web.Request) -> Way:
    """The way that the router has found; the pattern is empty where it has found none."""
    resource = request.match_info.route.resource
    return Way(resource.canonical if resource is not None else "", request.match_info)


@frozen.dataclass(frozen=True, slots=True)
class Call:
    """One request with the node it is for."""

    node: Node
    request: web.Request
    public_url: str
    route: Route
    path: Mapping[str, str]
    """What stands for the names in the path."""

    def check_query(self) -> None:
        """Raise ``InvalidInput`` for query parameters that are unknown, or given twice and mean one value."""
        known = {query.name: query for query in self.route.query}
        for name in self.request.query:
            if name not in known:
                hint = did_you_mean(name[:60], list(known)) or f"there are {', '.join(known) or 'none here'}"
                raise InvalidInput(f'unknown query parameter "{name[:60]}"', hint=hint)
            if not known[name].repeatable and len(self.request.query.getall(name)) > 1:
                raise InvalidInput(f"{name} is given more than once")

    def flow_wanted(self) -> tuple[str | None, str | None]:
        """The namespace and the flow's id that the query asks for; ``flow`` may name both. Raises ``InvalidInput``."""
        namespace, flow = self.text("namespace"), self.text("flow")
        if flow is None or "/" not in flow:
            return namespace, flow
        named, _, id = flow.partition("/")
        if namespace not in (None, named):
            raise InvalidInput(
                f'flow names the namespace "{named[:60]}", namespace says "{namespace[:60]}"',
                hint="leave one of them out",
            )
        return named, id

    def text(self, name: str) -> str | None:
        """A query parameter, None when absent or empty."""
        return self.request.query.get(name) or None

    def number(self, name: str) -> int | None:
        """A whole number within the bounds of its ``Query``. Raises ``InvalidInput``."""
        text = self.text(name)
        if text is None:
            return None
        query = next(query for query in self.route.query if query.name == name)
        if not _WHOLE.fullmatch(text) or not query.least <= int(text) <= query.most:
            raise InvalidInput(
                f'{name} is a whole number from {query.least} to {query.most}, got "{text[:60]}"'
            )
        return int(text)

    def flag(self, name: str) -> bool | None:
        """``true`` or ``false``, in either case. Raises ``InvalidInput``."""
        text = self.text(name)
        if text is None:
            return None
        if text.lower() not in _FLAGS:
            raise InvalidInput(f'{name} is true or false, got "{text[:60]}"')
        return _FLAGS[text.lower()]

    async def body(self) -> bytes:
        """The request's body out of its content coding."""
        return await read_body(self.request)

    async def parsed(self, model: type[B]) -> B:
        """The request's JSON body. Raises ``InvalidInput``."""
        return parsed(model, await self.body())


def parsed(model: type[B], raw: bytes, *, hint: str | None = None) -> B:
    """A JSON body; an empty one is an empty object. Raises ``InvalidInput``."""
    try:
        return model.model_validate(jsontext.loads_bounded(raw) if raw.strip() else {})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])[:60] or "the body"
        if first["type"] == "extra_forbidden":
            known = field_names(model)
            near = did_you_mean(where, known) or f"there are {', '.join(known)}"
            raise InvalidInput(f'unknown property "{where}"', hint=near) from error
        if first["type"] == "missing":
            raise InvalidInput(f"{where} is required", hint=hint) from error
        raise InvalidInput(f"{where}: {message_of(first)}", hint=hint) from error
    except ValueError as error:
        raise InvalidInput(f"the body is not JSON: {error}", hint=hint) from error
