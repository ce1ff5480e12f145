"""/api/v1/executions: list, get, task runs, logs, stream, kill, restart, replay, purge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from aiohttp import web

from hub.api.answers import SECURITY_HEADERS, masked_answer, masked_text, model_answer
from hub.api.lists import LIST_BYTES, TASK_RUN_BYTES, Fitting, listed
from hub.api.routing import Call, Query, Route
from hub.api.server import mark_endless
from hub.api.sessions import may_go_on
from hub.api.views.base import View
from hub.api.views.executions import (
    ExecutionList,
    ExecutionSummary,
    ExecutionView,
    LogLineView,
    LogList,
    PurgeAnswer,
    PurgeBody,
    ReplayBody,
    ReplayView,
    TaskRunList,
    TaskRunView,
)
from hub.engine.follow import Step, follow
from hub.engine.services import Services
from hub.errors import InvalidInput, did_you_mean
from hub.model.durations import parse_duration
from hub.model.execution import Execution, ExecutionState
from hub.model.task_run import TaskRun
from hub.plugin.storage import ExecutionFilter, LogLine, Page, Slice

_BASE = "/api/v1/executions"
_ONE = _BASE + "/{id}"
_MOST = 1000
_LOG_CHARACTERS = 4_000_000
_CURSOR = "[A-Za-z0-9_-]{1,64}"


async def list_executions(call: Call) -> web.Response:
    services = call.node.services
    page, count = page_of(call), call.flag("count") or False
    wanted = filter_of(call)
    if wanted is None:
        return await masked_answer(ExecutionList(items=[], total=0 if count else None), services.vault)
    fitting = Fitting(services.payloads, LIST_BYTES, with_files=False)
    total: int | None = None

    async def fetch(part: Page) -> Slice[Execution]:
        nonlocal count, total
        found = await services.storage.executions(wanted, part, count=count)
        if count:
            count, total = False, found.total
        return found

    async def show(executions: Sequence[Execution]) -> list[ExecutionSummary]:
        return [await ExecutionSummary.of(execution, fitting) for execution in executions]

    items, cursor = await listed(fetch, page, show)
    return await masked_answer(ExecutionList(items=items, next_cursor=cursor, total=total), services.vault)


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
    namespace, flow = call.flow_wanted()
    found = ExecutionFilter(
        namespace=namespace,
        flow=flow,
        states=tuple(_state(part) for text in query.getall("state", []) for part in text.split(",") if part),
        labels=labels,
        since=_moment(call, "since"),
        until=_moment(call, "until"),
    )
    return None if contradicts else found


def page_of(call: Call, *, default: int = 50) -> Page:
    """The page that the query asks for. Raises ``InvalidInput``."""
    cursor = call.text("cursor")
    if cursor is not None and not re.fullmatch(_CURSOR, cursor):
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
    return moment_of(text, name) if text is not None else None


def moment_of(text: str, name: str) -> datetime:
    """The moment that a text spells. Raises ``InvalidInput``."""
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
    return await masked_answer(await view_of(services, execution), services.vault)


async def view_of(services: Services, execution: Execution) -> ExecutionView:
    """An execution with its first task runs and everything unpacked that fits."""
    fitting = Fitting(services.payloads)
    fields = await ExecutionSummary.fields_of(execution, fitting)
    fields["trigger"] = await fitting.stored("trigger", execution.trigger_data)
    fields["omitted"] = fitting.omitted()
    runs, cursor = await _task_runs(services, execution.id, Page(_MOST))
    return ExecutionView(**fields, task_runs=runs, task_runs_cursor=cursor)


async def _task_runs(
    services: Services, execution_id: str, page: Page
) -> tuple[list[TaskRunView], str | None]:
    where = f"/api/v1/executions/{execution_id}/taskRuns page by page with limit=1"
    # one alone is shown whatever its size
    fitting = Fitting(services.payloads, TASK_RUN_BYTES if page.limit > 1 else None)

    async def show(runs: Sequence[TaskRun]) -> list[TaskRunView]:
        return [await TaskRunView.of(run, fitting, where) for run in runs]

    return await listed(lambda part: services.storage.task_runs(execution_id, part), page, show)


async def list_task_runs(call: Call) -> web.Response:
    services, id = call.node.services, call.path["id"]
    page = page_of(call, default=_MOST)
    await services.storage.execution(id)
    items, cursor = await _task_runs(services, id, page)
    return await masked_answer(TaskRunList(items=items, next_cursor=cursor), services.vault)


async def get_logs(call: Call) -> web.StreamResponse:
    services, id = call.node.services, call.path["id"]
    after, limit = call.number("after") or 0, call.number("limit") or _MOST
    follows = call.flag("follow")
    await services.storage.execution(id)
    if follows:
        return await _stream(call, logs_after=after, only_logs=True)
    lines = await services.storage.logs(id, after=after, limit=limit + 1)
    shown: list[LogLine] = []
    characters = 0
    for line in lines[:limit]:
        characters += len(line.message)
        if shown and characters > _LOG_CHARACTERS:
            break
        shown.append(line)
    view = LogList(
        items=[LogLineView.of(line) for line in shown],
        next_after=shown[-1].number if len(lines) > len(shown) else None,
    )
    return await masked_answer(view, services.vault)


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
    mark_endless(call.request)
    steps = follow(services, call.path["id"], logs_after=logs_after, with_task_runs=not only_logs)
    try:
        async for step in steps:
            if not may_go_on(call.request):
                break
            if only_logs and step.log is None:
                continue
            name, view = await step_view(services, step)
            text = masked_text(view, services.vault)
            await answer.write(text + b"\n" if only_logs else b'{"%s":%s}\n' % (name.encode(), text))
        await answer.write_eof()
    except ConnectionError:
        # the reader went away: nobody is left to be told, and what is stored stays readable
        return answer
    finally:
        await steps.aclose()  # type: ignore[attr-defined]
    return answer


async def step_view(services: Services, step: Step) -> tuple[str, View]:
    """A step's name in a JSON line, and what stands there."""
    fitting = Fitting(services.payloads)
    if step.log is not None:
        return "log", LogLineView.of(step.log)
    if step.task_run is not None:
        return "taskRun", await TaskRunView.of(step.task_run, fitting)
    assert step.execution is not None
    return "execution", await ExecutionSummary.of(step.execution, fitting)


async def kill_execution(call: Call) -> web.Response:
    execution = await call.node.kill(call.path["id"])
    return await masked_answer(await view_of(call.node.services, execution), call.node.services.vault)


async def restart_execution(call: Call) -> web.Response:
    execution = await call.node.restart(call.path["id"])
    return await masked_answer(await view_of(call.node.services, execution), call.node.services.vault)


async def replay_execution(call: Call) -> web.Response:
    services = call.node.services
    body = await call.parsed(ReplayBody)
    replayed = await call.node.again.replay(
        call.path["id"],
        inputs=body.inputs,
        labels=body.labels,
        revision=body.revision,
        from_task=body.from_task,
    )
    execution = await view_of(services, replayed.execution)
    fields = {name: getattr(execution, name) for name in type(execution).model_fields}
    view = ReplayView(**fields, gone=list(replayed.gone))
    return await masked_answer(view, services.vault, status=201)


async def purge_executions(call: Call) -> web.Response:
    body = await call.parsed(PurgeBody)
    retention = call.node.retention
    filter = ExecutionFilter(
        body.namespace,
        body.flow,
        states=tuple(_end_state(text) for text in body.states),
        until=_ended_before(body, call.node.services.clock.now()),
    )
    if body.dry_run:
        count, more = await retention.count(filter, most=body.limit)
    else:
        purged = await retention.purge_some(filter, most=body.limit)
        count, more = len(purged.ids), purged.more
    return model_answer(PurgeAnswer(executions=count, more=more, dry_run=body.dry_run))


def _end_state(text: str) -> ExecutionState:
    state = _state(text)
    if not state.is_terminal:
        raise InvalidInput(f"{state.value} is no end: only ended executions are removed")
    return state


def _ended_before(body: PurgeBody, now: datetime) -> datetime:
    if (body.before is None) == (body.older_than is None):
        raise InvalidInput(
            "say which are old enough by before or olderThan, one of the two", hint='{"olderThan": "30d"}'
        )
    if body.before is not None:
        return moment_of(body.before, "before")
    try:
        return now - parse_duration(body.older_than or "")
    except OverflowError:
        raise InvalidInput(f"olderThan goes back before the year 1: {body.older_than}") from None
    except ValueError as error:
        raise InvalidInput(f"olderThan: {error}") from error


_LIMIT = Query("limit", f"How many, at most {_MOST}.", "integer", least=1, most=_MOST)
PAGE = (_LIMIT, Query("cursor", "Where the last page said the next one starts.", pattern=_CURSOR))

ROUTES = (
    Route(
        "GET",
        _BASE,
        list_executions,
        "List executions, newest first.",
        ExecutionList,
        query=(
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id, or the one of this name, `NAMESPACE/ID`."),
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
        lines_answer="application/jsonl",
    ),
    Route(
        "GET",
        _ONE + "/stream",
        stream_execution,
        "Stream states, task runs and log lines as JSON lines until the execution ends.",
        media_type="application/jsonl",
    ),
    Route("POST", _ONE + "/kill", kill_execution, "Kill an execution.", ExecutionView),
    Route(
        "POST",
        _ONE + "/restart",
        restart_execution,
        "Go on with a failed, killed or cancelled execution; what has completed is not run again.",
        ExecutionView,
    ),
    Route(
        "POST",
        _ONE + "/replay",
        replay_execution,
        "Start a new execution as the original was started, with other inputs or another revision if given.",
        ReplayView,
        status=201,
        body=ReplayBody,
    ),
    Route(
        "POST",
        _BASE + "/purge",
        purge_executions,
        "Remove ended executions with their task runs, logs and files.",
        PurgeAnswer,
        body=PurgeBody,
    ),
)
