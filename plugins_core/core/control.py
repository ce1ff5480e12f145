"""Tasks that steer: groups, branches, loops and waiting. They are ordinary components on ``ctx``."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, ClassVar

from pydantic import BaseModel, Field, field_validator

from hub.plugin import Branch, Cases, Children, Decided, Duration, Task, TaskContext, Wait, iso, jsontext


class Sequential(Task):
    """Run tasks one after another, as a group."""

    type: ClassVar[str] = "flow.sequential"
    branches: ClassVar[str] = "sequence"
    examples: ClassVar[tuple[str, ...]] = (
        "id: group\ntype: flow.sequential\ntasks:\n  - {id: a, type: log, message: one}\n"
        "  - {id: b, type: log, message: two}",
    )

    tasks: Children = Field(description="The tasks, in order.")

    async def run(self, ctx: TaskContext) -> None:
        await ctx.run(self.tasks)


class Parallel(Task):
    """Run tasks side by side."""

    type: ClassVar[str] = "flow.parallel"
    branches: ClassVar[str] = "parallel"
    examples: ClassVar[tuple[str, ...]] = (
        "id: both\ntype: flow.parallel\ntasks:\n  - {id: left, type: log, message: left}\n"
        "  - {id: right, type: log, message: right}",
    )

    tasks: Children = Field(description="The tasks; each starts without waiting for the others.")
    concurrency_limit: int = Field(0, ge=0, description="How many run at a time; 0 means all.")

    async def run(self, ctx: TaskContext) -> None:
        await ctx.run_branches(
            (Branch([task]) for task in self.tasks),
            count=len(self.tasks),
            limit=self.concurrency_limit or None,
        )


class If(Task):
    """Run one group of tasks or another."""

    type: ClassVar[str] = "flow.if"
    branches: ClassVar[str] = "alternatives"
    examples: ClassVar[tuple[str, ...]] = (
        "id: check\ntype: flow.if\ncondition: '{{ inputs.day is defined }}'\nthen:\n"
        "  - {id: yes, type: log, message: a day was given}\nelse:\n"
        "  - {id: no, type: log, message: no day was given}",
    )

    condition: Decided[Any] = Field(
        description="Which way to go; false, null, 0, an empty text and the words for them mean `else`."
    )
    then: Children = Field(description="Tasks to run when it holds.")
    else_: Children = Field((), alias="else", description="Tasks to run when it does not.")

    class Output(BaseModel):
        condition: bool = Field(description="Which way it went.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        holds = _holds(self.condition)
        await ctx.run(self.then if holds else self.else_)
        return {"condition": holds}


class Switch(Task):
    """Run one of several groups of tasks, by a value."""

    type: ClassVar[str] = "flow.switch"
    branches: ClassVar[str] = "alternatives"
    examples: ClassVar[tuple[str, ...]] = (
        "id: by-kind\ntype: flow.switch\nvalue: '{{ inputs.name ?? \"\" }}'\ncases:\n  card:\n"
        "    - {id: charge, type: log, message: charge it}\n  cash:\n    - {id: count, type: log, message: count it}\n"
        "defaults:\n  - {id: ask, type: log, message: ask}",
    )

    value: Decided[Any] = Field(
        description="What decides; compared with the cases as text, as JSON spells it."
    )
    cases: Cases = Field(description="Tasks by value.")
    defaults: Children = Field((), description="Tasks for every other value.")

    class Output(BaseModel):
        case: str | None = Field(None, description="The case that was taken; null for `defaults`.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        spelled = self.value if isinstance(self.value, str) else jsontext.dumps(self.value)
        taken = spelled if spelled in self.cases else None
        await ctx.run(self.cases[taken] if taken is not None else self.defaults)
        return {"case": taken}


class Loop(Task):
    """Run tasks once for every value of a list or mapping; ``item`` holds the value, its key and its place."""

    type: ClassVar[str] = "flow.loop"
    branches: ClassVar[str] = "loop"
    examples: ClassVar[tuple[str, ...]] = (
        "id: each\ntype: flow.loop\nvalues: [1, 2, 3]\nconcurrencyLimit: 2\ntasks:\n"
        "  - {id: show, type: log, message: '{{ item.index }}: {{ item.value }}'}",
    )

    values: Decided[list[Any] | dict[str, Any]] = Field(
        description="A list, a mapping (its entries are looped over), or a JSON text of one."
    )
    concurrency_limit: int = Field(10, ge=1, le=1000, description="How many iterations run at a time.")
    tasks: Children = Field(description="What to run for each value.")

    class Output(BaseModel):
        iterationCount: int = Field(description="How many iterations ran.")
        warnings: int = Field(0, description="How many of them ended with a warning.")

    @field_validator("values", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = jsontext.loads_bounded(value)
            except ValueError:
                raise ValueError("expected a list or a mapping, got text that is not JSON") from None
        if not isinstance(value, list | tuple | dict):
            raise ValueError(f"expected a list or a mapping, got {jsontext.dumps(value)[:80]}")
        return value

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        outcome = await ctx.run_branches(
            self._branches(), count=len(self.values), limit=self.concurrency_limit
        )
        return {"iterationCount": outcome.done, "warnings": outcome.warned}

    def _branches(self) -> Iterator[Branch]:
        entries = self.values.items() if isinstance(self.values, dict) else ((None, v) for v in self.values)
        for index, (key, value) in enumerate(entries):
            yield Branch(self.tasks, index, {"item": {"index": index, "key": key, "value": value}})


class Sleep(Task):
    """Wait for a while; a waiting execution costs no memory."""

    type: ClassVar[str] = "flow.sleep"
    examples: ClassVar[tuple[str, ...]] = ("id: pause\ntype: flow.sleep\nduration: PT1H",)

    duration: Duration = Field(description="How long to wait.")

    async def run(self, ctx: TaskContext) -> None:
        until = await ctx.decide("until", lambda: iso(ctx.now() + self.duration))
        moment = datetime.fromisoformat(until)
        if ctx.now() < moment:
            raise Wait(until=moment)


_FALSE = {"", "false", "0", "no", "null", "none"}


def _holds(value: Any) -> bool:
    return value.strip().lower() not in _FALSE if isinstance(value, str) else bool(value)
