"""Tasks that reach other flows: emit events, run subflows."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from hub.plugin import (
    Delivery,
    ExecutionState,
    Fail,
    Failed,
    FlowKey,
    Occurrence,
    Task,
    TaskContext,
    Wait,
    check_type,
)

_FAILURES = frozenset({ExecutionState.FAILED, ExecutionState.KILLED, ExecutionState.CANCELLED})
_LONGEST_TYPE = 200


class Emit(Task):
    """Emit an event; flows with an `event.matched` trigger for its type start."""

    type: ClassVar[str] = "event.emit"
    examples: ClassVar[tuple[str, ...]] = (
        "id: paid\ntype: event.emit\nevent: shop.order.paid\ndata: {id: 7, total: 120}",
    )

    event: str = Field(
        min_length=1,
        max_length=_LONGEST_TYPE,
        description="The CloudEvents type, as `shop.order.paid`; `hub.…` is the hub's own.",
    )
    data: dict[str, Any] = Field({}, description="What expressions of those flows see as `trigger`.")
    subject: str | None = Field(None, description="What the event is about.")
    delivery_id: str | None = Field(
        None, description="An event with a known id is not emitted again; the task run's own by default."
    )

    @field_validator("event")
    @classmethod
    def _is_not_ours(cls, value: str) -> str:
        check_type(value)
        return value

    class Output(BaseModel):
        eventId: str = Field(description="The event.")
        executionIds: list[str] = Field(description="The executions that it started.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        delivery = None
        scope = None
        if self.delivery_id is not None:
            delivery, scope = Delivery(self.delivery_id), f"emitted by {ctx.flow}"
        receipt = await ctx.emit(
            Occurrence(self.data, type=self.event, subject=self.subject, delivery=delivery, scope=scope)
        )
        return {"eventId": receipt.event_id, "executionIds": list(receipt.execution_ids)}


class Subflow(Task):
    """Run another flow and wait for its end."""

    type: ClassVar[str] = "flow.subflow"
    examples: ClassVar[tuple[str, ...]] = (
        "id: book\ntype: flow.subflow\nnamespace: shop.intake\nflowId: orders\ninputs: {day: 2026-01-31}",
    )

    flow_id: str = Field(description="The id of the flow to run.")
    namespace: str | None = Field(None, description="Its namespace; this flow's by default.")
    revision: int | None = Field(None, ge=1, description="A revision of it; the newest by default.")
    inputs: dict[str, Any] = Field({}, description="Its inputs.")
    labels: dict[str, str] = Field({}, description="Labels for its execution.")
    wait: bool = Field(True, description="Whether to wait for its end; a waiting execution costs no memory.")
    transmit_failed: bool = Field(True, description="Whether its failure is this task's failure.")
    outputs: list[str] = Field(
        [], description="Which of its outputs to keep, by name; all of them when none is named."
    )

    class Output(BaseModel):
        executionId: str = Field(description="The execution.")
        state: str | None = Field(None, description="How it ended; null when nobody waited.")
        outputs: dict[str, Any] = Field({}, description="What it gave.")

    @field_validator("flow_id")
    @classmethod
    def _is_an_id(cls, value: str) -> str:
        if "/" in value:
            raise ValueError(f'"{value}" is not an id; write namespace: and flowId: apart')
        return value

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        key = FlowKey(self.namespace or ctx.flow.namespace, self.flow_id)
        if self.wait and key == ctx.flow:
            # it would wait for itself, twenty deep
            raise Fail(f"flow {key} cannot wait for itself")
        child_id = await ctx.start(
            key, inputs=self.inputs, labels=self.labels, revision=self.revision, together=self.wait
        )
        if not self.wait:
            return {"executionId": child_id, "state": None, "outputs": {}}
        child = await ctx.execution(child_id)
        if not child.state.is_terminal:
            raise Wait(f"for {key} {child_id}", execution=child_id)
        given = dict(child.outputs or {})
        kept = {name: given[name] for name in self.outputs if name in given} if self.outputs else given
        result = {"executionId": child_id, "state": child.state.value, "outputs": kept}
        if child.state in _FAILURES and self.transmit_failed:
            raise Failed(
                f"{key} ended {child.state.value}: {child.error or 'no reason given'}", outputs=result
            )
        return result
