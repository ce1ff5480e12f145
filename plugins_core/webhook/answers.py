"""What a webhook answers: that the event is stored, or what its flow made of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from hub.plugin import (
    DEFERRED,
    Duration,
    Execution,
    ExecutionState,
    HttpAnswer,
    HubError,
    InvalidInput,
    Model,
    Receipt,
    Task,
    TaskContext,
    TriggerContext,
)

RESPOND = "webhook.respond"
_LEAST_STATUS, _LAST_STATUS = 200, 599
_GOOD = frozenset({ExecutionState.SUCCESS, ExecutionState.WARNING})
_MOST_HEADERS = 50
# what the server alone may say
_REFUSED_HEADERS = frozenset(
    {"content-length", "transfer-encoding", "connection", "content-encoding", "date", "server", "set-cookie"}
)


class Wait(Model):
    """How long a caller waits for the flow's end."""

    timeout: Duration = Field(
        timedelta(seconds=30), description="After this the answer is 202 with the ids, as without `wait`."
    )

    @field_validator("timeout")
    @classmethod
    def _is_sensible(cls, value: timedelta) -> timedelta:
        if not timedelta(0) < value <= timedelta(minutes=10):
            raise ValueError("a caller waits at most PT10M")
        return value


class Respond(Model):
    """What is answered in place of the default; expressions see `trigger`, with `wait` also `outputs` and `state`."""

    status: Annotated[int | str, DEFERRED] = Field(200, description="The status.")
    headers: Annotated[dict[str, str], DEFERRED] = Field({}, description="More headers.")
    body: Annotated[Any, DEFERRED] = Field(
        None, description="The body; text is sent as it is, the rest as JSON."
    )


class RespondTask(Task):
    """Answer the waiting caller of a webhook now, while the flow goes on."""

    type: ClassVar[str] = RESPOND
    examples: ClassVar[tuple[str, ...]] = (
        "id: thanks\ntype: webhook.respond\nstatus: 201\nbody: {accepted: true}",
    )

    status: int = Field(200, ge=_LEAST_STATUS, le=_LAST_STATUS, description="The status.")
    headers: dict[str, str] = Field({}, description="More headers.")
    body: Any = Field(None, description="The body; text is sent as it is, the rest as JSON.")

    class Output(BaseModel):
        status: int = Field(description="The status.")
        headers: dict[str, str] = Field(description="The headers.")
        body: Any = Field(None, description="The body.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        check_headers(self.headers)
        return {"status": self.status, "headers": dict(self.headers), "body": self.body}


def check_headers(headers: Mapping[str, str]) -> None:
    """Raises ``InvalidInput`` for headers that a flow may not set."""
    if len(headers) > _MOST_HEADERS:
        raise InvalidInput(f"an answer has at most {_MOST_HEADERS} headers of its own")
    for name, value in headers.items():
        if name.lower() in _REFUSED_HEADERS or not name.isascii() or not name.replace("-", "").isalnum():
            raise InvalidInput(f'"{name}" is no header that a flow may set')
        if any(ord(letter) < 32 or ord(letter) == 127 for letter in value):
            raise InvalidInput(f'the header "{name}" holds a line break or another control character')


def refused(status: int, code: str, message: str, *, details: Any = None, **headers: str) -> HttpAnswer:
    """An error in the one shape."""
    return HttpAnswer(status, {"code": code, "message": message, "hint": None, "details": details}, headers)


def stored(receipt: Receipt, **more: Any) -> HttpAnswer:
    """The event is durable, or was known."""
    if receipt.conflict:
        message = f"this delivery is known with another body, as event {receipt.event_id}"
        return refused(409, "conflict", message)
    body: dict[str, Any] = {"eventId": receipt.event_id, "executionIds": list(receipt.execution_ids), **more}
    if receipt.duplicate:
        body["duplicate"] = True
    if receipt.reason and "batched" not in more:
        body["reason"] = receipt.reason
    return HttpAnswer(202, body)


async def after_wait(
    receipt: Receipt, wait: Wait, respond: Respond | None, data: Mapping[str, Any], ctx: TriggerContext
) -> HttpAnswer:
    """What the flow made of the event, once it has ended or answered; 202 where that takes too long."""
    if receipt.conflict or not receipt.execution_ids:
        return stored(receipt)
    execution, early = await ctx.result(
        receipt.execution_ids[0], timeout=wait.timeout.total_seconds(), early=RESPOND
    )
    if early is not None:
        return HttpAnswer(int(early["status"]), early["body"], dict(early["headers"]))
    if not execution.state.is_terminal:
        return stored(receipt, state=execution.state.value)
    if execution.state not in _GOOD:
        return _failed(execution)
    if respond is not None:
        return await rendered(
            respond, data, ctx, outputs=execution.outputs or {}, state=execution.state.value
        )
    return HttpAnswer(200, dict(execution.outputs or {}))


def _failed(execution: Execution) -> HttpAnswer:
    state = execution.state.value
    return refused(
        500,
        "execution_failed",
        execution.error or f"the execution ended {state}",
        details={"executionId": execution.id, "state": state},
    )


async def rendered(
    respond: Respond, data: Mapping[str, Any], ctx: TriggerContext, **names: Any
) -> HttpAnswer:
    """The answer that ``respond`` says."""
    try:
        status = await ctx.render(respond.status, data, **names)
        headers = {
            name: str(value) for name, value in (await ctx.render(respond.headers, data, **names)).items()
        }
        body = await ctx.render(respond.body, data, **names)
        check_headers(headers)
        number = int(status)
        if not _LEAST_STATUS <= number <= _LAST_STATUS:
            raise InvalidInput(f"{number} is no status to answer with")
    except (HubError, TypeError, ValueError) as error:
        message = error.message if isinstance(error, HubError) else str(error)
        return refused(500, "invalid_respond", f"respond: {message}")
    return HttpAnswer(number, body, headers)
