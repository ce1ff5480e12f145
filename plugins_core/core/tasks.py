"""Tasks that say something or give something back."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from hub.plugin import Fail, Task, TaskContext, jsontext


class Log(Task):
    """Write a line to the execution's log."""

    type: ClassVar[str] = "log"
    examples: ClassVar[tuple[str, ...]] = (
        "id: hello\ntype: log\nmessage: Hello, {{ inputs.name ?? 'world' }}",
    )

    message: str | list[str] = Field(description="What to write; a list writes a line each.")
    level: Literal["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] = Field(
        "INFO", description="How important it is."
    )

    @field_validator("message", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        # whatever an expression gave is worth a line
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            return [item if isinstance(item, str) else jsontext.dumps(item) for item in value]
        return jsontext.dumps(value)

    @field_validator("level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value

    async def run(self, ctx: TaskContext) -> None:
        for line in [self.message] if isinstance(self.message, str) else self.message:
            ctx.logger.log(self.level, line)


class Return(Task):
    """Give a value to later tasks, as ``outputs.<id>.value``."""

    type: ClassVar[str] = "return"
    examples: ClassVar[tuple[str, ...]] = (
        "id: total\ntype: return\nvalue: '{{ trigger.body.items | length }}'",
    )

    value: Any = Field(None, description="The value; an expression alone keeps its type.")

    class Output(BaseModel):
        value: Any = Field(None, description="What was given.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        return {"value": self.value}


class FailExecution(Task):
    """End the execution FAILED, whatever else would follow; ``errors`` and ``finally`` still run."""

    type: ClassVar[str] = "execution.fail"
    examples: ClassVar[tuple[str, ...]] = (
        "id: stop\ntype: execution.fail\nwhen: '{{ trigger.body.total < 0 }}'\nmessage: the total is negative",
    )

    message: str = Field("the flow asked to fail", description="Why, as the execution's error.")

    async def run(self, ctx: TaskContext) -> None:
        raise Fail(self.message)
