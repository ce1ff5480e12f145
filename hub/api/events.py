"""/api/v1/events: list and get."""

from __future__ import annotations

from aiohttp import web

from hub.api.answers import json_answer
from hub.api.executions import page_of
from hub.api.routing import Call, Query, Route
from hub.api.views import EventList, EventView
from hub.engine.services import Services
from hub.model.event import StoredEvent

_BASE = "/api/v1/events"


async def list_events(call: Call) -> web.Response:
    services = call.node.services
    found = await services.storage.events(
        page_of(call), namespace=call.text("namespace"), flow=call.text("flow")
    )
    view = EventList(
        items=[await _view(services, event) for event in found.items], next_cursor=found.next_cursor
    )
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def get_event(call: Call) -> web.Response:
    services = call.node.services
    view = await _view(services, await services.storage.event(call.path["id"]))
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def _view(services: Services, stored: StoredEvent) -> EventView:
    return EventView.of(stored, await services.payloads.unpack(stored.event.data))


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
            Query("limit", "How many, at most 1000.", "integer"),
            Query("cursor", "Where the last page said the next one starts."),
        ),
    ),
    Route("GET", _BASE + "/{id}", get_event, "Get an event with its verdicts.", EventView),
)
