"""/api/v1/flows: list, put, get, delete, revisions, start."""

from __future__ import annotations

from aiohttp import web

from hub.api.answers import masked_answer, model_answer, prefers_json, problem_view
from hub.api.executions import view_of
from hub.api.headers import media_type
from hub.api.names import NAMES_PAGE, names_page
from hub.api.routing import Call, Query, Route, parsed
from hub.api.views.executions import ExecutionView, NewExecutionBody
from hub.api.views.flows import (
    BrokenFile,
    FlowList,
    FlowPut,
    FlowSource,
    FlowSourceBody,
    FlowView,
    ProblemView,
    RevisionList,
    RevisionView,
)
from hub.clock import iso
from hub.errors import Conflict, InvalidInput
from hub.model.ids import FlowKey

_BASE = "/api/v1/flows"
_ONE = _BASE + "/{namespace}/{id}"
_YAML = "application/yaml"
_PUT_HINT = 'send {"source": "the YAML"} as application/json, or the YAML itself as application/yaml'


def key_of(call: Call) -> FlowKey:
    return FlowKey(call.path["namespace"], call.path["id"])


async def list_flows(call: Call) -> web.Response:
    namespace = call.text("namespace")
    records = [r for r in call.node.catalog.records() if namespace in (None, r.key.namespace)]
    broken = [
        BrokenFile(file=file, problems=[ProblemView(**problem_view(p)) for p in problems])
        for file, problems in sorted(call.node.catalog.broken.items())
    ]
    page, cursor = names_page(call, records, lambda record: tuple(record.key))
    return model_answer(FlowList(items=[FlowView.of(r) for r in page], broken=broken, next_cursor=cursor))


async def get_flow(call: Call) -> web.Response:
    """The source, byte for byte; inside JSON for those who ask for JSON."""
    key = key_of(call)
    revision = call.number("revision")
    if revision is None:
        record = await call.node.catalog.find(key)
        if record is None:
            raise call.node.catalog.missing(key)
        revision = record.revision
    number, source = await call.node.services.storage.flow_source(key, revision)
    if prefers_json(call.request.headers.get("Accept", "")):
        answer = model_answer(FlowSource(namespace=key.namespace, id=key.id, revision=number, source=source))
    else:
        answer = web.Response(body=source.encode(), content_type=_YAML, charset="utf-8")
    answer.headers["X-Hub-Revision"] = str(number)
    answer.headers["Vary"] = "Accept"
    return answer


async def put_flow(call: Call) -> web.Response:
    key = key_of(call)
    refuse_file_owned(call, key)
    raw = await call.body()
    kind, _ = media_type(call.request.headers.get("Content-Type"))
    source = _source_in_json(raw, key) if kind == "application/json" else _text(raw)
    stored = await call.node.catalog.put(source, expect=key)
    view = FlowPut(
        **FlowView.of(stored.record).model_dump(),
        changed=stored.changed,
        warnings=[ProblemView(**problem_view(p)) for p in stored.loaded.warnings],
    )
    return model_answer(view, status=201 if stored.created else 200)


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the source is not UTF-8: {error.reason} at byte {error.start}") from error


def _source_in_json(raw: bytes, key: FlowKey) -> str:
    body = parsed(FlowSourceBody, raw, hint=_PUT_HINT)
    named = FlowKey(body.namespace or key.namespace, body.id or key.id)
    if named != key:
        raise InvalidInput(f"the body is for the flow {named}, the address for {key}")
    return body.source


async def delete_flow(call: Call) -> web.Response:
    key = key_of(call)
    refuse_file_owned(call, key)
    await call.node.catalog.retire(key)
    return web.Response(status=204)


def refuse_file_owned(call: Call, key: FlowKey) -> None:
    """A flow from a folder belongs to its file."""
    record = call.node.catalog.get(key)
    if record is not None and record.origin is not None:
        raise Conflict(f"flow {key} belongs to the file {record.origin}", hint="change or remove that file")


async def list_revisions(call: Call) -> web.Response:
    found = await call.node.services.storage.revisions(key_of(call))
    return model_answer(RevisionList(items=[RevisionView(revision=n, created_at=iso(at)) for n, at in found]))


async def start_flow(call: Call) -> web.Response:
    body = parsed(NewExecutionBody, await call.body())
    execution = await call.node.intake.start(
        key_of(call), inputs=body.inputs, labels=body.labels, trigger=body.trigger, data=body.data
    )
    view = await view_of(call.node.services, execution)
    return await masked_answer(view, call.node.services.vault, status=201)


ROUTES = (
    Route(
        "GET",
        _BASE,
        list_flows,
        "List the flows in use.",
        FlowList,
        query=(Query("namespace", "Only this namespace."), *NAMES_PAGE),
    ),
    Route(
        "GET",
        _ONE,
        get_flow,
        "Get a flow's source, byte for byte; inside JSON with `Accept: application/json`.",
        FlowSource,
        query=(Query("revision", "This revision instead of the newest.", "integer", least=1),),
        text_answer=_YAML,
    ),
    Route(
        "PUT",
        _ONE,
        put_flow,
        "Create or change a flow; the body is its YAML, or JSON that holds it.",
        FlowPut,
        body=FlowSourceBody,
        text_body=_YAML,
        also=(201,),
    ),
    Route("DELETE", _ONE, delete_flow, "Take a flow out of use; its history is kept.", status=204),
    Route("GET", _ONE + "/revisions", list_revisions, "List a flow's revisions.", RevisionList),
    Route(
        "POST",
        _ONE + "/executions",
        start_flow,
        "Start a flow.",
        ExecutionView,
        status=201,
        body=NewExecutionBody,
    ),
)
