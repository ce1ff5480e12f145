"""Health, metrics, plugins, schemas, OpenAPI, and the page at the root."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from hub.api.answers import json_answer, model_answer
from hub.api.openapi import document
from hub.api.routing import Call, Route
from hub.api.sessions import SESSION, SESSIONS
from hub.api.views.system import HealthView, ListenerView, PluginFaultView, PluginList, PluginView
from hub.clock import iso
from hub.config.schema import flow_schema
from hub.engine.listeners import ListenerStatus
from hub.engine.notifications import NotifierState
from hub.errors import NotFound
from hub.model.execution import TERMINAL, ExecutionState
from hub.model.ids import TriggerKey
from hub.plugin.context import SourceStatus


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
    nodes = await node.services.storage.nodes()
    if nodes:
        gauge = Gauge("hub_nodes", "Hubs over this storage, by state.", ["state"], registry=registry)
        gauge.labels("alive").set(sum(not one.is_silent for one in nodes))
        gauge.labels("silent").set(sum(one.is_silent for one in nodes))
    Gauge("hub_flows", "Flows in use.", registry=registry).set(len(node.catalog.records()))
    Gauge("hub_flow_files_broken", "Flow files that cannot be used.", registry=registry).set(
        len(node.catalog.broken)
    )
    owed = await node.services.storage.notice_counts()
    gauge = Gauge(
        "hub_notices",
        "Notices that are still to be sent, or were given up, by state.",
        ["state"],
        registry=registry,
    )
    for word in ("owed", "dead"):
        gauge.labels(word).set(owed.get(word, 0))
    _notifier_metrics(node.notifications.states(), registry)
    Gauge("hub_ready", "1 while events are taken.", registry=registry).set(node.is_ready)
    _listener_metrics(node.listeners.statuses(), registry)
    _source_metrics(node.triggers.sources(), registry)
    return web.Response(body=generate_latest(registry), headers={"Content-Type": "text/plain; version=0.0.4"})


def _listener_metrics(listeners: Sequence[ListenerStatus], registry: CollectorRegistry) -> None:
    told = Counter("hub_listener_told", "News told to a listener.", ["listener"], registry=registry)
    dropped = Counter(
        "hub_listener_dropped", "News that a listener was too slow for.", ["listener"], registry=registry
    )
    failed = Counter("hub_listener_failures", "Failures of a listener.", ["listener"], registry=registry)
    waiting = Gauge("hub_listener_waiting", "News that wait for a listener.", ["listener"], registry=registry)
    for one in listeners:
        told.labels(one.type).inc(one.told)
        dropped.labels(one.type).inc(one.missed)
        failed.labels(one.type).inc(one.failures)
        waiting.labels(one.type).set(one.waiting)


def _source_metrics(sources: Mapping[TriggerKey, SourceStatus], registry: CollectorRegistry) -> None:
    """What triggers read part by part: absent where no flow has such a trigger."""
    if not sources:
        return
    lag = Gauge(
        "hub_trigger_lag", "Records that wait in a part of a source.", ["trigger", "part"], registry=registry
    )
    taken = Counter("hub_trigger_taken", "Records that a trigger stored.", ["trigger"], registry=registry)
    dead = Counter("hub_trigger_dead", "Records that are dead letters.", ["trigger"], registry=registry)
    failing = Gauge("hub_trigger_failing", "1 while a source cannot be read.", ["trigger"], registry=registry)
    committed = Gauge(
        "hub_trigger_committed_timestamp_seconds",
        "When a source was last told what was taken.",
        ["trigger"],
        registry=registry,
    )
    for key, source in sources.items():
        for part, waiting in source.lags.items():
            if waiting is not None:
                lag.labels(str(key), part).set(waiting)
        taken.labels(str(key)).inc(source.taken)
        dead.labels(str(key)).inc(source.dead)
        failing.labels(str(key)).set(source.error is not None)
        if source.committed_at is not None:
            committed.labels(str(key)).set(source.committed_at.timestamp())


def _notifier_metrics(states: Sequence[NotifierState], registry: CollectorRegistry) -> None:
    sent = Counter(
        "hub_notices_delivered", "Deliveries that succeeded, by notifier.", ["notifier"], registry=registry
    )
    failed = Counter(
        "hub_notice_attempts_failed", "Attempts that failed, by notifier.", ["notifier"], registry=registry
    )
    disabled = Gauge(
        "hub_notifier_disabled", "1 where a receiver wants nothing any more.", ["notifier"], registry=registry
    )
    for one in states:
        sent.labels(one.declaration.name).inc(one.delivered)
        failed.labels(one.declaration.name).inc(one.failed)
        disabled.labels(one.declaration.name).set(one.disabled is not None)


async def list_plugins(call: Call) -> web.Response:
    items = [
        PluginView(
            name=plugin.name,
            distribution=plugin.distribution,
            version=plugin.version,
            types=list(plugin.types),
            state=plugin.state,
            error=plugin.error,
            advice=plugin.advice,
            faults=[
                PluginFaultView(
                    component=one.component,
                    fault=one.fault,
                    hint=one.hint,
                    where=one.where,
                    count=one.count,
                    last_at=iso(one.last_at),
                )
                for one in call.node.services.faults.of(plugin.name)
            ],
            listeners=[
                ListenerView(
                    type=one.type,
                    state=one.state,
                    told=one.told,
                    dropped=one.missed,
                    waiting=one.waiting,
                    failures=one.failures,
                    error=one.error,
                )
                for one in call.node.listeners.statuses()
                if one.plugin == plugin.name
            ],
        )
        for plugin in call.node.services.registry.plugins
    ]
    return model_answer(PluginList(items=items))


async def get_flow_schema(call: Call) -> web.Response:
    return json_answer(flow_schema(call.node.services.registry))


def openapi_route(routes: Sequence[Route]) -> Route:
    """The route that serves the document of all routes, its own included."""

    async def openapi(call: Call) -> web.Response:
        needs_token = call.request.app[SESSIONS].needs_token
        return json_answer(document([*routes, own], call.public_url, needs_token=needs_token))

    own = Route("GET", "/api/v1/openapi.json", openapi, "This API as OpenAPI 3.1.")
    return own


_PAGE = Path(__file__).parent / "page"
_FILES = {"app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}


async def page(call: Call) -> web.Response:
    """The page; what it shows it asks the API for."""
    made = _file("index.html", "text/html")
    if SESSION in call.request:
        # a browser that signed in can sign out
        made.body = _content("index.html").replace(b'id="sign-out" hidden', b'id="sign-out"')
    return made


async def page_file(call: Call) -> web.Response:
    name = call.path["name"]
    if name not in _FILES:
        raise NotFound(f"there is nothing at /ui/{name}")
    return _file(name, _FILES[name])


@cache
def _content(name: str) -> bytes:
    return (_PAGE / name).read_bytes()


def _file(name: str, content_type: str) -> web.Response:
    return web.Response(body=_content(name), content_type=content_type, charset="utf-8")


ROUTES = (
    Route("GET", "/health/live", live, "Whether the process lives.", HealthView, is_open=True),
    Route(
        "GET",
        "/health/ready",
        ready,
        "Whether every flow takes its events.",
        HealthView,
        is_open=True,
        also=(503,),
    ),
    Route("GET", "/metrics", metrics, "Metrics for Prometheus.", media_type="text/plain"),
    Route("GET", "/api/v1/plugins", list_plugins, "List the hub's plugins.", PluginList),
    Route("GET", "/api/v1/schemas/flow.json", get_flow_schema, "The JSON Schema of flow files."),
    Route("GET", "/", page, "The page.", media_type="text/html"),
    Route("GET", "/ui/{name}", page_file, "What the page is made of.", media_type="text/css"),
)
