"""/api/v1/events: list and get."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from hub.api.answers import json_answer
from hub.api.executions import PAGE, page_of
from hub.api.routing import Call, Query, Route
from hub.api.views import EventList, EventView
from hub.engine.services import Services
from hub.model.event import StoredEvent
from hub.plugin.storage import EventFilter

_BASE = "/api/v1/events"


async def list_events(call: Call) -> web.Response:
    services = call.node.services
    filter = EventFilter(call.text("namespace"), call.text("flow"), dead=call.flag("dead"))
    found = await services.storage.events(filter, page_of(call))
    view = EventList(items=await _views(services, found.items), next_cursor=found.next_cursor)
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def get_event(call: Call) -> web.Response:
    services = call.node.services
    [view] = await _views(services, [await services.storage.event(call.path["id"])])
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def _views(services: Services, events: Sequence[StoredEvent]) -> list[EventView]:
    started = await services.storage.executions_of_events([stored.event.id for stored in events])
    return [
        EventView.of(
            stored,
            await services.payloads.unpack(stored.event.data),
            started.get(stored.event.id, []),
        )
        for stored in events
    ]


ROUTES = (
    Route(
        "GET",
        _BASE,
        list_events,
        "List events, newest first.",
        EventList,
        query=(
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id."),
            Query("dead", "Only dead letters, or only others.", "boolean"),
            *PAGE,
        ),
    ),
    Route("GET", _BASE + "/{id}", get_event, "Get an event with its verdicts.", EventView),
)
