"""Script tasks: a body in a file, an interpreter, the declared environment and nothing else."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, Field, field_validator, model_validator

from hub.plugin import SCRIPT, Fail, Failed, InvalidInput, Script, Task, TaskContext
from plugins_core.script.files import (
    InputFile,
    check_input_files,
    check_patterns,
    keep_files,
    open_folder,
    place_files,
)
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
    files: dict[str, str] = Field(description="The URIs of the `outputFiles` that were kept, by name.")


class _ScriptTask(Task):
    """What every script task has."""

    Output = ScriptOutput

    env: dict[str, str] = Field({}, description="Environment variables; the way to hand data to a script.")
    success_exit_codes: list[int] = Field([0], min_length=1, description="Exit codes that mean success.")
    input_files: dict[str, str | InputFile] = Field(
        {},
        description="Files to put into the working folder, by relative name: text, the URI of a stored file, "
        "`{uri: …}`, or `{text: …}` for text from outside that may look like a URI.",
    )
    output_files: list[str] = Field(
        [],
        description="Files to keep from the working folder: relative names, which must be there, and patterns "
        "(`*.csv`, `out/**`).",
    )

    @field_validator("env")
    @classmethod
    def _are_variables(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            if not _VARIABLE.match(name):
                raise ValueError(f'"{name}" cannot name an environment variable')
            if "\0" in text:
                raise ValueError(f"{name}: a value cannot hold a NUL character")
        return value

    @field_validator("input_files", mode="before")
    @classmethod
    def _are_contents(cls, value: Any) -> Any:
        if isinstance(value, dict):
            for name, one in value.items():
                if (
                    one is None
                    or isinstance(one, list)
                    or (isinstance(one, dict) and not _names_content(one))
                ):
                    raise ValueError(
                        f'"{name}": expected text, a URI, {{uri: …}} or {{text: …}}; for data write "| toJson"'
                    )
        return value

    @field_validator("output_files")
    @classmethod
    def _are_patterns(cls, value: list[str]) -> list[str]:
        check_patterns(value)
        return value

    @model_validator(mode="after")
    def _names_are_free(self) -> Self:
        if self.input_files:
            try:
                check_input_files(self.input_files, self._own_files())
            except ValueError as error:
                raise ValueError(f"inputFiles: {error}") from error
        return self

    def _own_files(self) -> set[str]:
        """The names that the hub itself writes into the working folder."""
        return {_OUTPUT_FILE, self._file()}

    def _file(self) -> str:
        """The name of the script's file."""
        raise NotImplementedError

    async def _run(self, ctx: TaskContext, command: Sequence[str], body: str | None) -> dict[str, Any]:
        async with ctx.working_folder() as folder:
            if self.input_files:
                await place_files(self.input_files, folder, ctx.files)
            argv = list(command)
            if body is not None:
                (folder / self._file()).write_text(body, encoding="utf-8")
                argv.insert(self._place_of_file(argv), self._file())
            if not self.output_files:
                outputs, problem = await self._run_in(ctx, folder, argv)
            else:
                with open_folder(folder) as opened:
                    outputs, problem = await self._run_in(ctx, folder, argv)
                    outputs["files"], problem = await self._keep(ctx, opened, problem)
        if problem is not None:
            raise Failed(problem, outputs=outputs)
        return outputs

    async def _run_in(
        self, ctx: TaskContext, folder: Path, argv: Sequence[str]
    ) -> tuple[dict[str, Any], str | None]:
        """The outputs of one run, and what is wrong with it."""
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
        return {"exitCode": code, "vars": found, "files": {}}, problem

    async def _keep(
        self, ctx: TaskContext, folder: int, problem: str | None
    ) -> tuple[dict[str, str], str | None]:
        """The files that were kept, also of a script that failed, and the first problem there is."""
        own = self._own_files() | set(self.input_files)
        kept = await keep_files(folder, self.output_files, ctx.files, but_named=own)
        if kept.left_out:
            ctx.logger.warning(
                f"outputFiles: left out {len(kept.left_out)}, which are no regular files with a name in UTF-8: "
                + ", ".join(ascii(name) for name in kept.left_out[:5])
            )
        return kept.files, problem or kept.problem

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


def _names_content(given: dict[str, Any]) -> bool:
    return len(given) == 1 and given.keys() <= {"uri", "text"}


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
        return await self._run(ctx, command, self.script)

    def _file(self) -> str:
        return "script.sh"


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
        return await self._run(ctx, command, self.script)

    def _file(self) -> str:
        return "script.py"


class Node(_ScriptTask):
    """Run a JavaScript program with Node.js."""

    type: ClassVar[str] = "script.node"
    examples: ClassVar[tuple[str, ...]] = (
        "id: double\ntype: script.node\nenv: {N: '21'}\nscript: |\n"
        "  const fs = require('fs');\n"
        "  fs.writeFileSync(process.env.HUB_OUTPUT, JSON.stringify({n: process.env.N * 2}));",
    )

    script: Script = Field(min_length=1, description="The script; never rendered, hand it data by `env`.")
    interpreter: list[str] = Field([], description="What to run it with; by default `node` on `PATH`.")
    file: Literal["script.js", "script.mjs", "script.cjs"] = Field(
        "script.js",
        description="The script's file name; `script.mjs` makes it an ES module (`import`, `await`).",
    )

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        return await self._run(ctx, self.interpreter or [self._node()], self.script)

    def _node(self) -> str:
        path = self.env.get("PATH") or os.environ.get("PATH", _DEFAULT_PATH)
        found = shutil.which("node", path=path) or shutil.which("nodejs", path=path)
        if found is None:
            raise Fail(f"node is not on PATH ({path}): install Node.js, or name it by interpreter")
        return found

    def _file(self) -> str:
        return self.file


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
        return await self._run(ctx, command, self.script)

    def _file(self) -> str:
        return self.file

    def _own_files(self) -> set[str]:
        return super()._own_files() if self.script is not None else {_OUTPUT_FILE}

    def _place_of_file(self, argv: list[str]) -> int:
        return len(argv) - len(self.args)
