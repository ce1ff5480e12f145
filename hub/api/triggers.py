"""/api/v1/triggers: how each does, how a webhook is called, when a schedule is due."""

from __future__ import annotations

import shlex
from urllib.parse import quote

from aiohttp import web

from hub.api.answers import json_answer
from hub.api.routing import Call, Query, Route
from hub.api.views import TriggerList, TriggerView
from hub.clock import iso
from hub.engine.triggers import KEY_TAKEN
from hub.errors import HubError
from hub.model.flow import TriggerDeclaration
from hub.model.ids import FlowKey, TriggerKey
from hub.plugin.trigger import HTTP_METHODS, HttpTrigger

_NEXT_TIMES = 3


async def list_triggers(call: Call) -> web.Response:
    """Those of a namespace or a flow, where one is named."""
    namespace, flow = call.text("namespace"), call.text("flow")
    items = [
        await _view(call, record.key, declaration)
        for record in call.node.catalog.records()
        if namespace in (None, record.key.namespace) and flow in (None, record.key.id)
        for declaration in call.node.catalog.triggers(record.key)
    ]
    # not masked: a webhook's key is part of the URL that this list is for
    return json_answer(TriggerList(items=items).model_dump(by_alias=True))


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
        if status.error == KEY_TAKEN:
            return view
        # it can be built, whatever it lacked before
        found = {"url": url, "curl": _curl(trigger, url), "state": "running", "error": None}
        return view.model_copy(update=found)
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
        query=(Query("namespace", "Only this namespace."), Query("flow", "Only flows of this id.")),
    ),
)
