"""/api/v1/notices: list, get, retry, drop; /api/v1/notifiers: who is told, and how that goes."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from hub.api.answers import masked_answer
from hub.api.executions import PAGE, page_of
from hub.api.lists import listed
from hub.api.routing import Call, Query, Route
from hub.api.views.notices import NoticeList, NoticeSummary, NoticeView, NotifierList, NotifierView
from hub.errors import InvalidInput, did_you_mean
from hub.plugin.notices import Notice, NoticeFilter, NoticeState

_BASE = "/api/v1/notices"
_ONE = _BASE + "/{id}"


async def list_notices(call: Call) -> web.Response:
    services = call.node.services
    states = [text for given in call.request.query.getall("state", []) for text in given.split(",") if text]
    namespace, flow = call.flow_wanted()
    filter = NoticeFilter(
        states=tuple(map(_state, states)),
        notifier=call.text("notifier"),
        namespace=namespace,
        flow=flow,
        execution_id=call.text("execution"),
    )

    async def show(notices: Sequence[Notice]) -> list[NoticeSummary]:
        return [NoticeSummary.of(notice) for notice in notices]

    items, cursor = await listed(lambda page: services.storage.notices(filter, page), page_of(call), show)
    return await masked_answer(NoticeList(items=items, next_cursor=cursor), services.vault)


async def get_notice(call: Call) -> web.Response:
    return await _answer(call, await call.node.services.storage.notice(call.path["id"]))


async def retry_notice(call: Call) -> web.Response:
    return await _answer(call, await call.node.notifications.retry(call.path["id"]), status=202)


async def drop_notice(call: Call) -> web.Response:
    await call.node.notifications.drop(call.path["id"])
    return web.Response(status=204)


async def list_notifiers(call: Call) -> web.Response:
    items = [
        NotifierView(
            name=one.declaration.name,
            type=one.declaration.component.type,
            disabled=one.disabled,
            sending=one.sending,
            delivered=one.delivered,
            failed=one.failed,
            dead=one.dead,
        )
        for one in call.node.notifications.states()
    ]
    return await masked_answer(NotifierList(items=items), call.node.services.vault)


async def _answer(call: Call, notice: Notice, *, status: int = 200) -> web.Response:
    return await masked_answer(NoticeView.of(notice), call.node.services.vault, status=status)


def _state(text: str) -> NoticeState:
    try:
        return NoticeState(text.lower())
    except ValueError:
        known = [state.value for state in NoticeState]
        hint = did_you_mean(text.lower(), known) or f"one of {', '.join(known)}"
        raise InvalidInput(f'unknown state "{text[:60]}"', hint=hint) from None


ROUTES = (
    Route(
        "GET",
        _BASE,
        list_notices,
        "List notices, newest first, without their texts.",
        NoticeList,
        query=(
            Query("state", "Only this state: `owed`, `delivered`, `dead` or `dropped`.", repeatable=True),
            Query("notifier", "Only those to this name."),
            Query("namespace", "Only this namespace."),
            Query("flow", "Only flows of this id, or the one of this name, `NAMESPACE/ID`."),
            Query("execution", "Only those of this execution."),
            *PAGE,
        ),
    ),
    Route("GET", _ONE, get_notice, "Get a notice with its texts.", NoticeView),
    Route(
        "POST",
        _ONE + "/retry",
        retry_notice,
        "Send a notice that is owed, was given up or was dropped at once; it enables a disabled notifier.",
        NoticeView,
        status=202,
    ),
    Route("DELETE", _ONE, drop_notice, "Drop a notice: nobody needs to be told any more.", status=204),
    Route(
        "GET",
        "/api/v1/notifiers",
        list_notifiers,
        "List the notifiers of hub.yaml, with what was sent since the hub started.",
        NotifierList,
    ),
)
