"""Health, metrics, plugins, schemas, OpenAPI, and the page at the root."""

from __future__ import annotations

import html
from collections.abc import Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from hub import __version__
from hub.api.answers import json_answer, model_answer
from hub.api.openapi import document
from hub.api.routing import Call, Route
from hub.api.views import HealthView, PluginList, PluginView
from hub.config.schema import flow_schema
from hub.model.execution import TERMINAL, ExecutionState
from hub.plugin.storage import ExecutionFilter, Page


async def live(call: Call) -> web.Response:
    return model_answer(HealthView(status="live"))


async def ready(call: Call) -> web.Response:
    if call.node.is_ready:
        return model_answer(HealthView(status="ready"))
    return model_answer(HealthView(status="starting or stopping"), status=503)


async def metrics(call: Call) -> web.Response:
    """Prometheus text, read from the state itself."""
    registry = CollectorRegistry()
    node = call.node
    states = await node.services.storage.counts()
    gauge = Gauge("hub_executions", "Executions that have not ended, by state.", ["state"], registry=registry)
    for state in ExecutionState:
        if state not in TERMINAL:
            gauge.labels(state.value).set(states.get(state.value, 0))
    Gauge("hub_executions_running_here", "Executions this node moves.", registry=registry).set(
        node.dispatcher.running
    )
    Gauge("hub_flows", "Flows in use.", registry=registry).set(len(node.catalog.records()))
    Gauge("hub_flow_files_broken", "Flow files that cannot be used.", registry=registry).set(
        len(node.catalog.broken)
    )
    Gauge("hub_ready", "1 while events are taken.", registry=registry).set(node.is_ready)
    return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})


async def list_plugins(call: Call) -> web.Response:
    items = [
        PluginView(
            name=plugin.name,
            distribution=plugin.distribution,
            version=plugin.version,
            types=list(plugin.types),
            state=plugin.state,
            error=plugin.error,
        )
        for plugin in call.node.services.registry.plugins
    ]
    return model_answer(PluginList(items=items))


async def get_flow_schema(call: Call) -> web.Response:
    return json_answer(flow_schema(call.node.services.registry))


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that serves the document of all routes."""

    async def openapi(call: Call) -> web.Response:
        return json_answer(document(routes, call.public_url))

    return Route("GET", "/api/v1/openapi.json", openapi, "This API as OpenAPI 3.1.")


async def page(call: Call) -> web.Response:
    """A plain page: what is in use, what ran last."""
    storage = call.node.services.storage
    recent = await storage.executions(ExecutionFilter(), Page(20))
    flows = "".join(
        f"<tr><td>{html.escape(str(r.key))}</td><td>{r.revision}</td>"
        f"<td>{html.escape(str(r.summary.get('description') or ''))}</td></tr>"
        for r in call.node.catalog.records()[:200]
    )
    runs = "".join(
        f"<tr><td><a href='/api/v1/executions/{e.id}'>{e.id}</a></td><td>{html.escape(str(e.flow))}</td>"
        f"<td>{e.state.value}</td><td>{e.created_at:%Y-%m-%d %H:%M:%S} UTC</td></tr>"
        for e in recent.items
    )
    body = _PAGE.format(
        version=__version__,
        flows=flows or "<tr><td colspan=3>No flow yet. Put one into a flows folder.</td></tr>",
        runs=runs or "<tr><td colspan=4>Nothing has run yet.</td></tr>",
    )
    return web.Response(text=body, content_type="text/html")


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>asynchub</title>
<style>
:root {{ color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }}
body {{ max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; width: 100%; }}
td, th {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid color-mix(in srgb, currentColor 20%, transparent); }}
</style></head><body>
<h1>asynchub {version}</h1>
<h2>Flows</h2><table><tr><th>Flow</th><th>Revision</th><th>Description</th></tr>{flows}</table>
<h2>Executions</h2><table><tr><th>Id</th><th>Flow</th><th>State</th><th>Created</th></tr>{runs}</table>
<p><a href="/api/v1/openapi.json">API</a> · <a href="/metrics">metrics</a></p>
</body></html>
"""

ROUTES = (
    Route("GET", "/health/live", live, "Whether the process lives.", HealthView, is_open=True),
    Route("GET", "/health/ready", ready, "Whether every flow takes its events.", HealthView, is_open=True),
    Route("GET", "/metrics", metrics, "Metrics for Prometheus.", media_type="text/plain"),
    Route("GET", "/api/v1/plugins", list_plugins, "List the hub's plugins.", PluginList),
    Route("GET", "/api/v1/schemas/flow.json", get_flow_schema, "The JSON Schema of flow files."),
    Route("GET", "/", page, "A plain page.", media_type="text/html"),
)
