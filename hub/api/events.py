"""/api/v1/events: list and get."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from hub.api.answers import masked_answer
from hub.api.executions import PAGE, page_of
from hub.api.lists import LIST_BYTES, Fitting, listed
from hub.api.routing import Call, Query, Route
from hub.api.views import EventList, EventView
from hub.engine.services import Services
from hub.model.event import StoredEvent
from hub.plugin.storage import EventFilter

_BASE = "/api/v1/events"


async def list_events(call: Call) -> web.Response:
    services = call.node.services
    filter = EventFilter(call.text("namespace"), call.text("flow"), dead=call.flag("dead"))
    fitting = Fitting(services.payloads, LIST_BYTES, with_files=False)
    items, cursor = await listed(
        lambda page: services.storage.events(filter, page),
        page_of(call),
        lambda events: _views(services, events, fitting),
    )
    return await masked_answer(EventList(items=items, next_cursor=cursor), services.vault)


async def get_event(call: Call) -> web.Response:
    services = call.node.services
    stored = await services.storage.event(call.path["id"])
    [view] = await _views(services, [stored], Fitting(services.payloads))
    return await masked_answer(view, services.vault)


async def _views(services: Services, events: Sequence[StoredEvent], fitting: Fitting) -> list[EventView]:
    started = await services.storage.executions_of_events([stored.event.id for stored in events])
    return [await EventView.of(stored, fitting, started.get(stored.event.id, [])) for stored in events]


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
