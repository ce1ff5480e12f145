"""/api/v1/events: list, get, send as CloudEvents, replay; dead letters are dropped here."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from hub.api.answers import error_answer, masked_answer
from hub.api.cloudevents import BODIES, read_events
from hub.api.executions import PAGE, page_of
from hub.api.lists import LIST_BYTES, Fitting, listed
from hub.api.routing import Call, Query, Route
from hub.api.views.events import EventList, EventReceipt, EventReceipts, EventReplayBody, EventView
from hub.engine.services import Services
from hub.errors import Conflict
from hub.model.event import Origin, Receipt, StoredEvent
from hub.plugin.storage import EventFilter

_BASE = "/api/v1/events"
_ONE = _BASE + "/{id}"
_UNNAMED = "cloudevents.received"
"""Not seen anywhere: every CloudEvent names its type."""


async def list_events(call: Call) -> web.Response:
    services = call.node.services
    filter = EventFilter(*call.flow_wanted(), dead=call.flag("dead"))
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


async def send_events(call: Call) -> web.Response:
    """Store CloudEvents and start what wants them."""
    if not call.node.takes_events:
        # before anything else: what is not loaded yet could not want them
        return error_answer(503, "not_ready", "the hub is starting or stopping", headers={"Retry-After": "1"})
    sent = read_events(call.request.headers, await call.body())
    receipts: dict[int, Receipt] = {}
    for source in dict.fromkeys(one.source for one in sent):
        places = [place for place, one in enumerate(sent) if one.source == source]
        stored = await call.node.services.bus.publish(
            Origin(source), [sent[place].occurrence for place in places], event_type=_UNNAMED
        )
        receipts.update(zip(places, stored, strict=True))
    items = [EventReceipt.of(receipts[place], one.ignored) for place, one in enumerate(sent)]
    if items and all(item.conflict for item in items):
        raise Conflict(items[0].reason or "", hint="send other data with an id of its own")
    return await masked_answer(EventReceipts(items=items), call.node.services.vault, status=202)


async def replay_event(call: Call) -> web.Response:
    body = await call.parsed(EventReplayBody)
    receipt = await call.node.again.replay_event(call.path["id"], body.data)
    return await masked_answer(EventReceipt.of(receipt), call.node.services.vault, status=202)


async def drop_dead(call: Call) -> web.Response:
    await call.node.services.storage.settle_dead(call.path["id"])
    return web.Response(status=204)


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
            Query("flow", "Only flows of this id, or the one of this name, `NAMESPACE/ID`."),
            Query("dead", "Only dead letters, or only others.", "boolean"),
            *PAGE,
        ),
    ),
    Route("GET", _ONE, get_event, "Get an event with its verdicts.", EventView),
    Route(
        "POST",
        _BASE,
        send_events,
        "Send CloudEvents: one or a batch as JSON, or one whose attributes are `ce-` headers.",
        EventReceipts,
        status=202,
        bodies=BODIES,
        any_body=True,
    ),
    Route(
        "POST",
        _ONE + "/replay",
        replay_event,
        "Let an event happen once more, for the flows as they are now; a dead letter is settled by it.",
        EventReceipt,
        body=EventReplayBody,
        status=202,
    ),
    Route("DELETE", _ONE + "/dead", drop_dead, "Drop a dead letter; the event stays stored.", status=204),
)
