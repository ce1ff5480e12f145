"""/api/v1/executions: list, get, task runs, logs, stream, kill."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from hub.api.answers import SECURITY_HEADERS, json_answer
from hub.api.routing import Call, Query, Route
from hub.api.views import (
    ExecutionList,
    ExecutionSummary,
    ExecutionView,
    LogLineView,
    LogList,
    TaskRunList,
    TaskRunView,
)
from hub.engine.follow import Step, follow
from hub.engine.services import Services
from hub.errors import InvalidInput, did_you_mean
from hub.model import jsontext
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRun
from hub.plugin.storage import ExecutionFilter, Page, Slice

_BASE = "/api/v1/executions"
_ONE = _BASE + "/{id}"
_MOST = 1000
_CURSOR = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


async def list_executions(call: Call) -> web.Response:
    services = call.node.services
    page, count = page_of(call), call.flag("count") or False
    wanted = filter_of(call)
    found: Slice[Execution] = Slice((), total=0 if count else None)
    if wanted is not None:
        found = await services.storage.executions(wanted, page, count=count)
    items = [await unpacked(services, execution) for execution in found.items]
    view = ExecutionList(
        items=[ExecutionSummary.of(execution) for execution in items],
        next_cursor=found.next_cursor,
        total=found.total,
    )
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


def filter_of(call: Call) -> ExecutionFilter | None:
    """The filter that the query asks for; None where nothing can fit it. Raises ``InvalidInput``."""
    query = call.request.query
    labels: dict[str, str] = {}
    contradicts = False
    for text in query.getall("label", []):
        name, separator, value = text.partition("=") if "=" in text else text.partition(":")
        if not separator:
            raise InvalidInput(f'label is NAME=VALUE, got "{text[:60]}"')
        contradicts = contradicts or labels.setdefault(name, value) != value
    found = ExecutionFilter(
        namespace=call.text("namespace"),
        flow=call.text("flow"),
        states=tuple(_state(part) for text in query.getall("state", []) for part in text.split(",") if part),
        labels=labels,
        since=_moment(call, "since"),
        until=_moment(call, "until"),
    )
    return None if contradicts else found


def page_of(call: Call, *, default: int = 50) -> Page:
    """The page that the query asks for. Raises ``InvalidInput``."""
    cursor = call.text("cursor")
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise InvalidInput(f'"{cursor[:60]}" is not a cursor of this list')
    return Page(call.number("limit") or default, cursor)


def _state(text: str) -> ExecutionState:
    try:
        return ExecutionState(text.upper())
    except ValueError:
        known = [state.value for state in ExecutionState]
        raise InvalidInput(
            f'unknown state "{text[:60]}"',
            hint=did_you_mean(text.upper(), known) or f"one of {', '.join(known)}",
        ) from None


def _moment(call: Call, name: str) -> datetime | None:
    text = call.text(name)
    if text is None:
        return None
    try:
        # a plus sign in a query is a space; nobody means one inside a moment
        found = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
    except ValueError:
        raise InvalidInput(
            f'{name} is an ISO 8601 moment such as 2026-01-31T12:00:00Z, got "{text[:60]}"'
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


async def get_execution(call: Call) -> web.Response:
    services = call.node.services
    execution = await services.storage.execution(call.path["id"])
    view = await view_of(services, execution)
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def view_of(services: Services, execution: Execution) -> ExecutionView:
    """An execution with its first task runs and everything unpacked."""
    execution = await unpacked(services, execution)
    runs = await services.storage.task_runs(execution.id, Page(_MOST))
    return ExecutionView(
        **ExecutionSummary.fields_of(execution),
        trigger=execution.trigger_data,
        task_runs=[TaskRunView.of(await _run_unpacked(services, run)) for run in runs.items],
        task_runs_cursor=runs.next_cursor,
    )


async def unpacked(services: Services, execution: Execution) -> Execution:
    """The execution with what was too large for a row."""
    payloads = services.payloads
    data, outputs = execution.trigger_data, execution.outputs
    return replace(
        execution,
        trigger_data=await payloads.unpack(data) if data is not None else None,
        outputs=await payloads.unpack(outputs) if outputs is not None else None,
    )


async def _run_unpacked(services: Services, run: TaskRun) -> TaskRun:
    if run.outputs is None:
        return run
    return replace(run, outputs=await services.payloads.unpack(run.outputs))


async def list_task_runs(call: Call) -> web.Response:
    services = call.node.services
    await services.storage.execution(call.path["id"])
    found = await services.storage.task_runs(call.path["id"], page_of(call, default=_MOST))
    view = TaskRunList(
        items=[TaskRunView.of(await _run_unpacked(services, run)) for run in found.items],
        next_cursor=found.next_cursor,
    )
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def get_logs(call: Call) -> web.StreamResponse:
    services, id = call.node.services, call.path["id"]
    after, limit = call.number("after") or 0, call.number("limit") or _MOST
    follows = call.flag("follow")
    await services.storage.execution(id)
    if follows:
        return await _stream(call, logs_after=after, only_logs=True)
    lines = await services.storage.logs(id, after=after, limit=limit + 1)
    shown = lines[:limit]
    view = LogList(
        items=[LogLineView.of(line) for line in shown],
        next_after=shown[-1].number if len(lines) > limit else None,
    )
    return json_answer(view.model_dump(by_alias=True), vault=services.vault)


async def stream_execution(call: Call) -> web.StreamResponse:
    await call.node.services.storage.execution(call.path["id"])
    return await _stream(call, logs_after=0, only_logs=False)


async def _stream(call: Call, *, logs_after: int, only_logs: bool) -> web.StreamResponse:
    """JSON lines as they happen, until the execution ends."""
    services = call.node.services
    answer = web.StreamResponse(headers={"Content-Type": "application/jsonl", **SECURITY_HEADERS})
    await answer.prepare(call.request)
    if call.request.method == "HEAD":
        return answer
    steps = follow(services, call.path["id"], logs_after=logs_after, with_task_runs=not only_logs)
    try:
        async for step in steps:
            if only_logs and step.log is None:
                continue
            text = services.vault.mask(jsontext.dumps(await step_view(services, step, only_logs)))
            await answer.write(text.encode() + b"\n")
    except (ConnectionError, asyncio.CancelledError):
        # the reader went away, or the hub stops: what is stored stays readable
        raise
    finally:
        await steps.aclose()  # type: ignore[attr-defined]
    await answer.write_eof()
    return answer


async def step_view(services: Services, step: Step, only_logs: bool = False) -> dict[str, Any]:
    """A step as a JSON line."""
    if step.log is not None:
        line = LogLineView.of(step.log).model_dump(by_alias=True)
        return line if only_logs else {"log": line}
    if step.task_run is not None:
        run = await _run_unpacked(services, step.task_run)
        return {"taskRun": TaskRunView.of(run).model_dump(by_alias=True)}
    assert step.execution is not None
    execution = await unpacked(services, step.execution)
    return {"execution": ExecutionSummary.of(execution).model_dump(by_alias=True)}


async def kill_execution(call: Call) -> web.Response:
    execution = await call.node.kill(call.path["id"])
    view = await view_of(call.node.services, execution)
    return json_answer(view.model_dump(by_alias=True), vault=call.node.services.vault)


_LIMIT = Query("limit", f"How many, at most {_MOST}.", "integer", least=1, most=_MOST)
PAGE = (_LIMIT, Query("cursor", "Where the last page said the next one starts."))

ROUTES = (
    Route(
        "GET",
        _BASE,
        list_executions,
        "List executions, newest first.",
        ExecutionList,
        query=(
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id."),
            Query("state", "Only this state.", repeatable=True),
            Query("label", "Only with this label, NAME=VALUE.", repeatable=True),
            Query("since", "Created at or after this moment, ISO 8601."),
            Query("until", "Created before this moment, ISO 8601."),
            *PAGE,
            Query("count", "Also count all that match.", "boolean"),
        ),
    ),
    Route("GET", _ONE, get_execution, "Get an execution with its task runs.", ExecutionView),
    Route("GET", _ONE + "/taskRuns", list_task_runs, "List task runs.", TaskRunList, query=PAGE),
    Route(
        "GET",
        _ONE + "/logs",
        get_logs,
        "Read the log; with `follow=true` as JSON lines until the execution ends.",
        LogList,
        query=(
            Query("after", "Only lines with a higher number.", "integer"),
            _LIMIT,
            Query("follow", "Stream lines as they are written.", "boolean"),
        ),
    ),
    Route(
        "GET",
        _ONE + "/stream",
        stream_execution,
        "Stream states, task runs and log lines as JSON lines until the execution ends.",
        media_type="application/jsonl",
    ),
    Route("POST", _ONE + "/kill", kill_execution, "Kill an execution.", ExecutionView),
)
