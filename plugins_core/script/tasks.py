"""Script tasks: a body in a file, an interpreter, the declared environment and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, Field, field_validator, model_validator

from hub.plugin import SCRIPT, Failed, InvalidInput, Script, Task, TaskContext
from plugins_core.script.outputs import outputs_in_line, read_output_file
from plugins_core.script.processes import TOKEN
from plugins_core.script.running import run_program

_OUTPUT_FILE = ".hub-output"
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


class ScriptOutput(BaseModel):
    """What a script gives."""

    exitCode: int = Field(description="The exit code; negative when a signal ended it.")
    vars: dict[str, Any] = Field(
        description='What it wrote to `$HUB_OUTPUT` and in `::{"outputs": {…}}::` lines.'
    )


class _ScriptTask(Task):
    """What every script task has."""

    Output = ScriptOutput

    env: dict[str, str] = Field({}, description="Environment variables; the way to hand data to a script.")
    success_exit_codes: list[int] = Field([0], min_length=1, description="Exit codes that mean success.")

    @field_validator("env")
    @classmethod
    def _are_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _VARIABLE.match(name):
                raise ValueError(f'"{name}" cannot name an environment variable')
            if "\0" in text:
                raise ValueError(f"{name}: a value cannot hold a NUL character")
        return value

    async def _run(
        self, ctx: TaskContext, command: Sequence[str], body: str | None, file: str
    ) -> dict[str, Any]:
        async with ctx.working_folder() as folder:
            argv = list(command)
            if body is not None:
                (folder / file).write_text(body, encoding="utf-8")
                argv.insert(self._place_of_file(argv), file)
            found: dict[str, Any] = {}
            code = await run_program(
                argv,
                folder=folder,
                env=self._environment(ctx, folder),
                token=ctx.process_token,
                on_line=lambda stream, line: _take_line(ctx, found, stream, line),
            )
            problem = self._problem(code)
            try:
                found.update(read_output_file(folder / _OUTPUT_FILE))
            except InvalidInput as error:
                problem = problem or error.message
        outputs = {"exitCode": code, "vars": found}
        if problem is not None:
            raise Failed(problem, outputs=outputs)
        return outputs

    def _place_of_file(self, argv: list[str]) -> int:
        return len(argv)

    def _environment(self, ctx: TaskContext, folder: Path) -> dict[str, str]:
        """Only what was declared, and what tells the script who it is."""
        return {
            "PATH": os.environ.get("PATH", _DEFAULT_PATH),
            "LANG": "C.UTF-8",
            **self.env,
            "HUB_EXECUTION_ID": ctx.execution_id,
            "HUB_TASK_RUN_ID": ctx.task_run_id,
            "HUB_ATTEMPT": str(ctx.attempt),
            "HUB_IDEMPOTENCY_KEY": ctx.idempotency_key,
            "HUB_OUTPUT": str(folder / _OUTPUT_FILE),
            TOKEN: ctx.process_token,
        }

    def _problem(self, code: int) -> str | None:
        if code in self.success_exit_codes:
            return None
        if code < 0:
            try:
                return f"ended by {signal.Signals(-code).name}"
            except ValueError:
                return f"ended by signal {-code}"
        return f"exit code {code}"


def _take_line(ctx: TaskContext, found: dict[str, Any], stream: str, line: str) -> None:
    outputs = outputs_in_line(line) if stream == "stdout" else None
    if outputs is not None:
        found.update(outputs)
        return
    ctx.logger.log("INFO" if stream == "stdout" else "WARN", line, stream=stream)


class Shell(_ScriptTask):
    """Run a shell script."""

    type: ClassVar[str] = "script.shell"
    examples: ClassVar[tuple[str, ...]] = (
        'id: count\ntype: script.shell\nscript: |\n  echo "lines=$(printf \'a\\nb\\n\' | wc -l)" >> "$HUB_OUTPUT"',
    )

    script: Script = Field(min_length=1, description="The script; never rendered, hand it data by `env`.")
    interpreter: list[str] = Field(["/bin/sh"], min_length=1, description="The shell.")
    fail_fast: bool = Field(True, description="Stop at the first command that fails (`-e`).")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        command = [*self.interpreter, "-e"] if self.fail_fast else self.interpreter
        return await self._run(ctx, command, self.script, "script.sh")


class Python(_ScriptTask):
    """Run a Python script."""

    type: ClassVar[str] = "script.python"
    examples: ClassVar[tuple[str, ...]] = (
        "id: double\ntype: script.python\nenv: {N: '21'}\nscript: |\n"
        "  import json, os\n"
        "  open(os.environ['HUB_OUTPUT'], 'w').write(json.dumps({'n': int(os.environ['N']) * 2}))",
    )

    script: Script = Field(min_length=1, description="The script; never rendered, hand it data by `env`.")
    interpreter: list[str] = Field(
        [], description="The Python to run it with; by default `python3`, else the hub's own."
    )

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        command = self.interpreter or [shutil.which("python3") or sys.executable, "-u"]
        return await self._run(ctx, command, self.script, "script.py")


class Run(_ScriptTask):
    """Run a program, or a script in any language by naming its interpreter."""

    type: ClassVar[str] = "script.run"
    examples: ClassVar[tuple[str, ...]] = (
        "id: version\ntype: script.run\ncommand: [uname, -s]",
        'id: perl\ntype: script.run\ninterpreter: [perl]\nscript: |\n  print "from perl\\n";',
    )

    command: Annotated[list[str], SCRIPT] = Field(
        [], description="The program and its fixed arguments; never rendered, no shell in between."
    )
    interpreter: list[str] = Field([], description="What runs `script`, `[node]`; the file's name is added.")
    script: Script | None = Field(
        None, description="The script; never rendered, hand it data by `env` or `args`."
    )
    file: str = Field(
        "script", pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$", description="The script's file name, `Main.java`."
    )
    args: list[str] = Field([], description="More arguments; these are rendered.")

    @field_validator("args", "command")
    @classmethod
    def _are_arguments(cls, value: list[str]) -> list[str]:
        if any("\0" in one for one in value):
            raise ValueError("an argument cannot hold a NUL character")
        return value

    @field_validator("command", mode="before")
    @classmethod
    def _is_a_list(cls, value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError('expected a list, ["program", "argument"]; for a shell line use script.shell')
        return value

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Run:
        if bool(self.command) == bool(self.interpreter) or bool(self.interpreter) != (
            self.script is not None
        ):
            raise ValueError("give either command, or interpreter and script")
        return self

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        command = [*(self.command or self.interpreter), *self.args]
        return await self._run(ctx, command, self.script, self.file)

    def _place_of_file(self, argv: list[str]) -> int:
        return len(argv) - len(self.args)
