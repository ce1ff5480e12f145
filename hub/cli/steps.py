"""Print what happens in an execution, line by line, as it happens."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

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
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:.1f} s"
