"""/api/v1/nodes: the hubs over one storage, and asking one to take nothing new."""

from __future__ import annotations

from aiohttp import web

from hub.api.answers import model_answer
from hub.api.routing import Call, Route
from hub.api.views.system import NodeList, NodeView
from hub.clock import iso
from hub.errors import InvalidInput
from hub.plugin.nodes import HubNode


async def list_nodes(call: Call) -> web.Response:
    """Every hub that has not ended; none where one hub at a time uses the storage."""
    found = await call.node.services.storage.nodes()
    return model_answer(NodeList(items=[_view(one) for one in found]))


async def drain_node(call: Call) -> web.Response:
    given = call.path["number"]
    if not given.isascii() or not given.isdigit() or len(given) > 18:
        raise InvalidInput(f'"{given}" is no node', hint="a node's number is in hub nodes list")
    return model_answer(_view(await call.node.services.storage.request_drain(int(given))))


def _view(node: HubNode) -> NodeView:
    state = "silent" if node.is_silent else "draining" if node.drain_requested_at is not None else "alive"
    return NodeView(
        number=node.number,
        name=node.name,
        version=node.version,
        state=state,
        executions=node.executions,
        this=node.is_this,
        started_at=iso(node.started_at),
        heartbeat_at=iso(node.heartbeat_at),
        lease_expires_at=iso(node.lease_expires_at),
    )


ROUTES = (
    Route("GET", "/api/v1/nodes", list_nodes, "List the hubs over this storage.", NodeList),
    Route(
        "POST",
        "/api/v1/nodes/{number}/drain",
        drain_node,
        "Ask a hub to take nothing new and to hand back what it moves; it stays up.",
        NodeView,
    ),
)
