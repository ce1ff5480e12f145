"""/api/v1/triggers: how each does, how a webhook is called, when a schedule is due; and a test of one."""

from __future__ import annotations

import shlex
from urllib.parse import quote

from aiohttp import web

from hub.api.answers import error_answer, json_answer, masked_answer
from hub.api.names import NAMES_PAGE, names_page
from hub.api.routing import Call, Query, Route
from hub.api.views.events import EventReceipt
from hub.api.views.triggers import (
    SentRequest,
    SourceView,
    TriggerList,
    TriggerTest,
    TriggerTestBody,
    TriggerView,
)
from hub.clock import iso
from hub.engine.rehearsal import rehearse
from hub.errors import HubError
from hub.model.flow import TriggerDeclaration
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.trigger import HTTP_METHODS, HttpTrigger

_NEXT_TIMES = 3


async def list_triggers(call: Call) -> web.Response:
    """Those of a namespace or a flow, where one is named."""
    namespace, flow = call.flow_wanted()
    catalog = call.node.catalog
    found = [
        (record.key, one)
        for record in catalog.records()
        if namespace in (None, record.key.namespace) and flow in (None, record.key.id)
        for one in catalog.triggers(record.key)
    ]
    page, cursor = names_page(call, found, lambda item: (*item[0], item[1].id))
    for key in dict.fromkeys(key for key, _ in page):
        await call.node.triggers.look_again(key)
    items = [await _view(call, key, one) for key, one in page]
    # not masked: a webhook's key is part of the URL that this list is for
    return json_answer(TriggerList(items=items, next_cursor=cursor).model_dump(by_alias=True))


async def test_trigger(call: Call) -> web.Response:
    path = call.path
    if not call.node.takes_events:
        return error_answer(503, "not_ready", "the hub is starting or stopping", headers={"Retry-After": "1"})
    body = await call.parsed(TriggerTestBody)
    name = TriggerKey(path["namespace"], path["flow"], path["id"])
    done = await rehearse(call.node.triggers, name, body.data, given="data" in body.model_fields_set)
    sent = None
    if done.sent is not None:
        shown = done.sent.body.decode("utf-8", "replace")
        sent = SentRequest(method=done.sent.method, headers=dict(done.sent.headers), body=shown)
    view = TriggerTest(
        sent=sent,
        status=done.answer.status if done.answer is not None else None,
        answer=done.answer.body if done.answer is not None else None,
        events=[EventReceipt.of(receipt) for receipt in done.receipts],
    )
    return await masked_answer(view, call.node.services.vault)


async def _view(call: Call, key: FlowKey, declaration: TriggerDeclaration) -> TriggerView:
    name = TriggerKey(*key, declaration.id)
    status = call.node.triggers.status(name)
    view = TriggerView(
        namespace=key.namespace,
        flow=key.id,
        id=declaration.id,
        type=declaration.type,
        state="disabled" if declaration.disabled else status.state,
        error=status.error,
        disabled=declaration.disabled,
        source=SourceView.of(status.source) if status.source is not None else None,
    )
    if declaration.disabled:
        return view
    try:
        trigger = await call.node.triggers.build(key, declaration)
    except HubError as error:
        message = call.node.services.vault.mask(error.message)
        return view.model_copy(update={"state": "broken", "error": message})
    if isinstance(trigger, HttpTrigger):
        url = f"{call.public_url}/api/v1/webhooks/{key.namespace}/{key.id}/{quote(trigger.key, safe='')}"
        if view.state == "broken":
            return view  # another trigger has its address
        return view.model_copy(update={"url": url, "curl": _curl(trigger, url)})
    times = trigger.next_times(call.node.services.clock.now(), _NEXT_TIMES)
    return view.model_copy(update={"next_times": [iso(time) for time in times]})


def _curl(trigger: HttpTrigger, url: str) -> str:
    method = next((one for one in ("POST", *HTTP_METHODS) if trigger.takes(one)), "POST")
    body = "" if method == "GET" else " -H 'Content-Type: application/json' -d '{}'"
    return f"curl -X {method} {shlex.quote(url)}{body}"


ROUTES = (
    Route(
        "GET",
        "/api/v1/triggers",
        list_triggers,
        "List triggers: state, webhook URLs, next planned times.",
        TriggerList,
        query=(
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id, or the one of this name, `NAMESPACE/ID`."),
            *NAMES_PAGE,
        ),
    ),
    Route(
        "POST",
        "/api/v1/triggers/{namespace}/{flow}/{id}/test",
        test_trigger,
        "Let a trigger happen: a webhook gets a signed request, others an event; what it starts is real.",
        TriggerTest,
        body=TriggerTestBody,
    ),
)
