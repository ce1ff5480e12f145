"""The aiohttp application: routes behind the guard, on an address that is always said."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from hub.api import (
    events,
    executions,
    flows,
    nodes,
    notices,
    reload,
    sign_in,
    stream,
    system,
    triggers,
    webhooks,
)
from hub.api.bodies import REQUEST_TIMEOUT
from hub.api.door import Door
from hub.api.guard import Guard
from hub.api.reload import RELOADS, Reloads
from hub.api.routing import Call, Route
from hub.api.server import ending_slow_heads, runner
from hub.api.sessions import SESSIONS, Sessions
from hub.api.shortcut import SHORTCUT, Shortcut
from hub.api.stream import TEXTS, Texts
from hub.config.settings import Limits, Settings
from hub.engine.node import Node
from hub.errors import Conflict, InvalidSettings

_ROUTES: tuple[Route, ...] = (
    *flows.ROUTES,
    *executions.ROUTES,
    *events.ROUTES,
    *notices.ROUTES,
    *nodes.ROUTES,
    *triggers.ROUTES,
    *webhooks.ROUTES,
    *stream.ROUTES,
    *reload.ROUTES,
    *system.ROUTES,
    *sign_in.ROUTES,
)
ROUTES = (*_ROUTES, system.openapi_route(_ROUTES))


@dataclass(frozen=True)
class Api:
    """A running API."""

    url: str
    """What users call: the public URL, else the bound address."""
    local_url: str
    """The bound address, for commands on this machine."""
    door: Door
    """Where requests come in."""


def build_application(
    node: Node,
    *,
    token: str | None,
    host: str,
    port: int,
    public_url: str | None,
    limits: Limits,
    reloads: Reloads | None = None,
) -> web.Application:
    """The application over a node."""
    sessions = Sessions(token, port=port)
    guard = Guard(node, sessions, host=host, port=port, public_url=public_url)
    url = (public_url or f"http://{_spelled(host)}:{port}").rstrip("/")
    application = web.Application(middlewares=[guard.middleware()], client_max_size=limits.body_bytes)
    application[SHORTCUT] = Shortcut(guard, node, url)
    application[REQUEST_TIMEOUT] = limits.request_timeout
    application[SESSIONS] = sessions
    application[TEXTS] = Texts()
    application[RELOADS] = reloads
    for route in ROUTES:
        handler = _bound(route, node, url)
        application.router.add_route(route.method, route.path, handler)
        if route.method == "GET" and not route.acts:
            application.router.add_route("HEAD", route.path, handler)
    return application


def _bound(route: Route, node: Node, url: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    handler = route.handler
    # a webhook's query is its sender's, and what watches health may add anything against caches
    checks_query = not route.is_open

    async def handle(request: web.Request) -> web.StreamResponse:
        call = Call(node, request, url, route, request.match_info)
        if request.query_string and checks_query:
            call.check_query()
        return await handler(call)

    return handle


@asynccontextmanager
async def start_api(
    node: Node, settings: Settings, listening: socket.socket, *, reloads: Reloads | None = None
) -> AsyncIterator[Api]:
    """The API over a listening socket, its door closed as yet; everything of it has ended when the block ends.

    The socket stays open. Raises ``InvalidSettings``.
    """
    server = settings.server
    token = server.token.get_secret_value() if server.token else None
    if token is None and not is_loopback(server.host):
        raise InvalidSettings(
            f"{settings.origin_of('server', 'host')} {server.host} is reachable from other machines"
            " and no token is set",
            hint="set HUB_TOKEN (or HUB_TOKEN_FILE), or leave the host at 127.0.0.1",
        )
    port = listening.getsockname()[1]
    application = build_application(
        node,
        token=token,
        host=server.host,
        port=port,
        public_url=server.public_url,
        limits=settings.limits,
        reloads=reloads,
    )
    running = runner(application)
    await running.setup()
    try:
        local = f"http://{_spelled(server.host)}:{port}"
        async with ending_slow_heads(running, settings.limits.request_timeout):
            yield Api((server.public_url or local).rstrip("/"), local, Door(running, listening))
    finally:
        await running.cleanup()


@asynccontextmanager
async def open_api(node: Node, settings: Settings) -> AsyncIterator[Api]:
    """The API at the address of the settings, open at once. Raises ``InvalidSettings``, ``Conflict``."""
    with listen(settings.server.host, settings.server.port) as listening:
        async with start_api(node, settings, listening) as api:
            await api.door.open()
            yield api


def listen(host: str, port: int) -> socket.socket:
    """A socket at an address, at which nobody is answered yet. Raises ``Conflict`` when it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise Conflict(
            f"{host}:{port} cannot be used: {error.strerror}",
            hint="end what listens there, or choose another with --port N (0 takes a free one)",
        ) from error
    return listening


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _spelled(host: str) -> str:
    return f"[{host}]" if ":" in host else host
