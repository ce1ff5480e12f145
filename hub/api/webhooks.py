"""/api/v1/webhooks: hand a request to the trigger that listens at its URL."""

from __future__ import annotations

from aiohttp import web
from multidict import MultiMapping

from hub.api.answers import SmallAnswer, error_answer
from hub.api.bodies import decoded, read_raw
from hub.api.headers import joined, media_type
from hub.api.routing import Call, Route
from hub.api.views.events import WebhookAnswer
from hub.errors import StorageOverloaded, StorageUnavailable
from hub.model import jsontext
from hub.model.ids import FlowKey
from hub.plugin.trigger import HTTP_METHODS, HttpAnswer, HttpRequest

PATH = "/api/v1/webhooks/{namespace}/{flow}/{key}"
_WITH_BODY = range(200, 204)
"""Statuses of usual answers, which have a body."""


async def receive(call: Call) -> web.Response:
    request, path = call.request, call.path
    if not call.node.takes_events:
        # before anything else: a flow that is not loaded yet must not look like one that does not exist
        return error_answer(503, "not_ready", "the hub is starting or stopping", headers={"Retry-After": "1"})
    flow = FlowKey(path["namespace"], path["flow"])
    listening = await call.node.triggers.receiver(flow, path["key"], request.method)
    if listening is None:
        return error_answer(404, "not_found", "no webhook listens here")
    raw = await read_raw(request)
    kind, charset = media_type(request.headers.get("Content-Type"))
    asked = HttpRequest(
        method=request.method,
        headers=joined(request.headers),
        query=_several(request.query) if request.query_string else {},
        body=decoded(request, raw),
        raw=raw,
        content_type=kind,
        charset=charset or "utf-8",
    )
    try:
        await call.node.services.turns.take_or_refuse(listening.ctx.key.namespace)
        answer = await listening.trigger.receive(asked, listening.ctx, listening.emit)
    except (StorageUnavailable, StorageOverloaded) as error:
        return error_answer(503, error.code, error.message, headers={"Retry-After": "1"})
    return _sent(answer)


def _sent(answer: HttpAnswer) -> web.Response:
    """Text as it is, nothing for None, the rest as JSON; a content type of the flow's own stands."""
    if answer.body is None:
        return web.Response(status=answer.status, headers=answer.headers)
    if not answer.headers and not isinstance(answer.body, str) and answer.status in _WITH_BODY:
        return SmallAnswer(jsontext.dump_bytes(answer.body), answer.status)
    is_text = isinstance(answer.body, str)
    body = answer.body.encode() if is_text else jsontext.dump_bytes(answer.body)
    headers = {"Content-Type": "text/plain; charset=utf-8" if is_text else "application/json"}
    if answer.headers:
        if any(name.lower() == "content-type" for name in answer.headers):
            headers.clear()
        headers.update(answer.headers)
    return web.Response(body=body, status=answer.status, headers=headers)


def _several(query: MultiMapping[str]) -> dict[str, str | list[str]]:
    found: dict[str, str | list[str]] = {}
    for name in query:
        values = query.getall(name)
        found[name] = values[0] if len(values) == 1 else values
    return found


ROUTES = tuple(
    Route(
        method,
        PATH,
        receive,
        "Deliver an event to a webhook trigger.",
        WebhookAnswer,
        status=202,
        is_open=True,
        acts=True,
        any_body=method != "GET",
        # no trigger of ours takes them; one of a plugin may
        is_hidden=method in ("PATCH", "DELETE"),
    )
    for method in HTTP_METHODS
)
