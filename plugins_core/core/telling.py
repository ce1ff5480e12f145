"""Tasks that check data and tell people."""

from __future__ import annotations

import asyncio
import json
import re
import sys
from datetime import timedelta
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, Field, field_validator

from hub.plugin import Attachment, Duration, Fail, NotifierNames, Task, TaskContext, jsontext
from plugins_core.core import validation

_SHOWN = 5
_STORED = re.compile(r"^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}-")


class Validate(Task):
    """Check data against a JSON Schema; what does not fit fails the task and says where."""

    type: ClassVar[str] = "json.validate"
    examples: ClassVar[tuple[str, ...]] = (
        'id: check\ntype: json.validate\nvalue: "{{ trigger.body }}"\n'
        "schema:\n  type: object\n  required: [id]\n  properties: {id: {type: integer}}",
    )

    value: Any = Field(description="The data to check.")
    schema_: dict[str, Any] | bool = Field(
        alias="schema",
        description="The JSON Schema: draft 2020-12 unless its `$schema` names another; it refers to itself only.",
    )
    fail_on_error: bool = Field(
        True, description="Whether data that does not fit fails the task; else `valid` says so."
    )
    limit: Duration = Field(
        timedelta(seconds=10),
        gt=timedelta(),
        description="How long checking may take; patterns and references can take for ever.",
    )

    class Output(BaseModel):
        valid: bool = Field(description="Whether the data fits.")
        errors: list[dict[str, str]] = Field(
            [], description="What does not fit: each with `path` (`$.items[0].price`) and `message`."
        )

    @field_validator("schema_")
    @classmethod
    def _is_one(cls, value: dict[str, Any] | bool) -> dict[str, Any] | bool:
        # one that holds expressions is checked when it runs
        if "{{" not in json.dumps(value, default=str):
            validation.check_schema(value)
        return value

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        try:
            if validation.is_quick(self.schema_, self.value):
                errors = validation.errors_of(self.schema_, self.value)
            else:
                errors = await self._errors_beside()
        except validation.BadSchema as error:
            raise Fail(f"the schema cannot be used: {error}") from error
        outputs = {"valid": not errors, "errors": errors}
        if errors and self.fail_on_error:
            shown = "; ".join(f"{one['path']}: {one['message']}" for one in errors[:_SHOWN])
            more = f" (and {len(errors) - _SHOWN} more)" if len(errors) > _SHOWN else ""
            raise Fail(f"the data does not fit the schema: {shown}{more}", outputs=outputs)
        return outputs

    async def _errors_beside(self) -> list[dict[str, str]]:
        """In a process of its own, which sees nothing else and is ended at the limit."""
        given = jsontext.dump_bytes([self.schema_, self.value])
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            validation.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
        )
        try:
            async with asyncio.timeout(self.limit.total_seconds()):
                out, err = await process.communicate(given)
        except TimeoutError:
            seconds = self.limit.total_seconds()
            raise Fail(f"checking took longer than {seconds:g} s; see limit") from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        try:
            answer = json.loads(out)
        except ValueError:
            last = err.decode("utf-8", "replace").strip().splitlines()[-1:]
            raise Fail(f"checking broke off: {' '.join(last) or process.returncode}") from None
        if "badSchema" in answer:
            raise validation.BadSchema(answer["badSchema"])
        errors: list[dict[str, str]] = answer["errors"]
        return errors


class Notify(Task):
    """Tell somebody: a notice, owed with the end of this task, sent by a notifier of `hub.yaml`.

    It is a line of the execution's log too. Sending is tried again until it succeeds or is given up, and never
    fails the flow; `hub notices list` shows where each stands.
    """

    type: ClassVar[str] = "notify"
    examples: ClassVar[tuple[str, ...]] = (
        'id: alert\ntype: notify\nto: oncall\nmessage: "{{ flow.id }} has something to say"\nlevel: WARN',
        "id: report\ntype: notify\nto: [oncall, sales]\nsubject: Orders of {{ inputs.day ?? 'today' }}\n"
        'message: "The report is attached."\nattachments: ["hub:///ab/report.csv"]',
    )

    to: NotifierNames = Field(
        min_length=1, description="Whom: a name under `notifiers:` in hub.yaml; several as a list."
    )
    message: str = Field(description="What to say.")
    subject: str | None = Field(None, description="A short line above it.")
    html: str | None = Field(None, description="The same as HTML, for those who show it.")
    attachments: list[str] = Field(
        [],
        max_length=20,
        description="Files to go with it, by the URIs that other tasks gave them.",
    )
    level: Literal["DEBUG", "INFO", "WARN", "ERROR"] = Field("INFO", description="How important it is.")

    @field_validator("message", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        return value if isinstance(value, str) else jsontext.dumps(value)

    async def run(self, ctx: TaskContext) -> None:
        names = self.to if isinstance(self.to, str) else ", ".join(self.to)
        subject = f"{self.subject}: " if self.subject else ""
        ctx.logger.log(self.level, f"to {names}: {subject}{self.message}")
        files = [Attachment(_name_of(uri), uri) for uri in self.attachments]
        for name in dict.fromkeys([self.to] if isinstance(self.to, str) else self.to):
            ctx.notify(
                name,
                self.message,
                subject=self.subject,
                html=self.html,
                level=self.level,
                attachments=files,
            )


def _name_of(uri: str) -> str:
    """The name of a file as its receiver should see it: a stored one has an id in front."""
    return _STORED.sub("", uri.rsplit("/", 1)[-1]) or "file"
