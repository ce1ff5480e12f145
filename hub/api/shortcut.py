"""The short way of a webhook's request: the guard and the handler of every other, without the search before them.

The router tries each shorter path in turn, and the application puts its chain of middlewares together; for the
most frequent request, whose path is of one form, that takes longer than the guard and the handler need.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable

from aiohttp import web

from hub.api import webhooks
from hub.api.guard import Guard
from hub.api.routing import Call, Way
from hub.engine.node import Node

_PLAIN = re.compile(r"/api/v1/webhooks/([\w.~-]+)/([\w.~-]+)/([\w.~-]+)(?:\?[^#]*)?", re.ASCII)
"""A path as every sender spells it; what is percent-encoded, say, is the router's."""
_NAMES = ("namespace", "flow", "key")


class Shortcut:
    """Answers requests to webhooks."""

    def __init__(self, guard: Guard, node: Node, url: str) -> None:
        self._guard = guard
        self._node = node
        self._url = url
        self._routes = {route.method: route for route in webhooks.ROUTES}

    def __call__(self, request: web.BaseRequest) -> Awaitable[web.StreamResponse] | None:
        """The answer to a plain request to a webhook that is here as a whole; None for every other."""
        route = self._routes.get(request.method)
        found = _PLAIN.fullmatch(request.raw_path)
        if route is None or found is None or not isinstance(request, web.Request):
            return None
        if "Expect" in request.headers or not request.content.is_eof():
            return None
        way = Way(webhooks.PATH, dict(zip(_NAMES, found.groups(), strict=True)))
        call = Call(self._node, request, self._url, route, way.names)
        return self._guard.passed(request, way, lambda _: webhooks.receive(call))


SHORTCUT = web.AppKey("shortcut", Shortcut)
