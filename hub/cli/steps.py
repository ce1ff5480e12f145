"""Print what happens in an execution, line by line, as it happens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from hub.cli.output import as_yaml

_COLOURS = {
    "SUCCESS": "green",
    "WARNING": "yellow",
    "FAILED": "red",
    "KILLED": "red",
    "CANCELLED": "red",
    "SKIPPED": "bright_black",
    "RETRYING": "yellow",
    "PAUSED": "cyan",
}


_MOST_OUTPUT_LINES = 20


class StepPrinter:
    """Prints the steps that a stream of an execution gives."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._to_stderr = to_stderr

    def show(self, step: Mapping[str, Any]) -> None:
        """Print one step, ``{"log": …}``, ``{"taskRun": …}`` or ``{"execution": …}``."""
        if "log" in step:
            self._say(log_line(step["log"]))
        elif "taskRun" in step:
            run = step["taskRun"]
            if run["state"] != "CREATED":
                attempt = f" (attempt {run['attempts']})" if run["attempts"] > 1 else ""
                reason = f": {run['error']}" if run.get("error") and run["state"] != "RUNNING" else ""
                self._say(f"{_coloured(run['state'])} {run['path']}{attempt}{reason}")
        elif "execution" in step:
            self._execution(step["execution"])

    def _execution(self, execution: Mapping[str, Any]) -> None:
        name = f"{execution['namespace']}/{execution['flow']}"
        line = f"{name} {_coloured(execution['state'])}"
        if execution.get("endedAt"):
            line += f" in {_took(execution)}"
        if execution.get("error"):
            line += f": {execution['error']}"
        self._say(f"{line}  {execution['id']}")
        if execution.get("endedAt") and execution.get("outputs") and not self._to_stderr:
            self._outputs(execution["outputs"])

    def _outputs(self, outputs: Mapping[str, Any]) -> None:
        """What the flow gave; of much the beginning."""
        lines = as_yaml({"outputs": outputs}).splitlines()
        for line in lines[:_MOST_OUTPUT_LINES]:
            self._say(line)
        if len(lines) > _MOST_OUTPUT_LINES:
            self._say(f"  … {len(lines) - _MOST_OUTPUT_LINES} more lines; -o json prints all")

    def _say(self, line: str) -> None:
        click.echo(line, err=self._to_stderr)


def log_line(line: Mapping[str, Any]) -> str:
    """A log line as the terminal shows it."""
    time = datetime.fromisoformat(line["time"]).strftime("%H:%M:%S.%f")[:-3]
    level = line["level"]
    return f"{time} {level:<5} {line['path'] or '-'}  {line['message']}"


def _coloured(state: str) -> str:
    return click.style(f"{state:<8}", fg=_COLOURS.get(state)).rstrip() if state in _COLOURS else state


def _took(execution: Mapping[str, Any]) -> str:
    began = datetime.fromisoformat(execution.get("startedAt") or execution["createdAt"])
    seconds = (datetime.fromisoformat(execution["endedAt"]) - began).total_seconds()
    return took(seconds)


def took(seconds: float) -> str:
    """A length of time as people say it: ``12 ms``, ``6.1 s``."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
