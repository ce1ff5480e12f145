"""The root of the command, and the one place where errors become exit codes."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from hub import __version__
from hub.cli.lazy import LazyGroup
from hub.cli.streams import FAILED, is_of_output, say_unwritable, settle

_COMMANDS = {
    "init": ("hub.cli.init:init", "Write a new project: settings, a first flow, a pipeline."),
    "serve": ("hub.cli.serve:serve", "Serve: API, triggers and engine in one process."),
    "demo": ("hub.cli.demo:demo", "Serve the first blueprints and send one event."),
    "run": ("hub.cli.run:run", "Run a flow from a file, or one that a hub knows."),
    "fmt": ("hub.cli.fmt:fmt", "Format flow files; comments and meaning stay."),
    "schema": ("hub.cli.schema:schema", "Print the JSON Schema of flows, or set up an editor."),
    "blueprints": ("hub.cli.blueprints:blueprints", "List, show and use ready flows."),
    "validate": ("hub.cli.validate:validate", "Check flow files; needs no hub."),
    "flows": ("hub.cli.flows:flows", "List, get, push, pull and compare the flows of a hub."),
    "executions": (
        "hub.cli.executions:executions",
        "List, get, follow, kill, restart, replay and purge executions.",
    ),
    "events": ("hub.cli.events:events", "List, follow, show, send and replay events; dead letters."),
    "notices": (
        "hub.cli.notices:notices",
        "List, show, retry and drop notices; who is told, and how that goes.",
    ),
    "triggers": (
        "hub.cli.triggers:triggers",
        "List triggers (webhook URLs, next planned times) and test them.",
    ),
    "db": ("hub.cli.db:db", "Bring a storage up to date, back it up, copy it into another."),
    "nodes": ("hub.cli.nodes:nodes", "List the hubs over one storage, and drain one."),
    "reference": ("hub.cli.reference:reference", "Write the reference pages."),
    "plugins": ("hub.cli.plugins:plugins", "List, install and check plugins, and begin a new one."),
    "reload": ("hub.cli.reload:reload", "Have a new process take over, without a refused request."),
    "config": ("hub.cli.config:config", "Show the settings in force, and where each comes from."),
    "doctor": ("hub.cli.doctor:doctor", "Examine this machine and this folder."),
    "completion": ("hub.cli.completion:completion", "Print a shell's completion script."),
}


class Root(LazyGroup):
    """The group of all commands; what becomes of their output is decided here, before click does."""

    def make_context(self, *args: Any, **more: Any) -> click.Context:
        with _output():
            return super().make_context(*args, **more)

    def invoke(self, ctx: click.Context) -> Any:
        with _output():
            return super().invoke(ctx)


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise click.exceptions.Exit(0) from error
    except OSError as error:
        if not is_of_output(error):
            raise
        say_unwritable(error)
        raise click.exceptions.Exit(FAILED) from error


@click.group(
    cls=Root,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """asynchub: flows in YAML, started by webhooks, schedules, files, streams and each other.

    Every acknowledged event runs exactly once.

    Exit codes: 0 ok, 1 ran and failed, 2 usage, 3 invalid, 4 not found, 5 denied, 6 unreachable, 7 conflict,
    8 time-out, 9 differs, 130 interrupted.
    """


NAMES = ("hub", "asynchub")


def program_name() -> str:
    """The name this command was called by."""
    called = Path(sys.argv[0]).name
    return called if called in NAMES else NAMES[0]


def main() -> None:
    """Run the command and exit."""
    code = _run()
    code = settle(code if isinstance(code, int) else 0)
    if threading.active_count() > 1:
        from hub.cli.looping import leave_threads

        leave_threads(code)
    sys.exit(code)


def _run() -> Any:
    """Run the command; answers the exit code."""
    name = program_name()
    if os.environ.get(f"_{name.upper()}_COMPLETE"):
        # a shell asks on every Tab: only then is its part loaded
        from hub.cli.completion import install

        install(cli)
    try:
        return cli.main(standalone_mode=False, prog_name=name)
    except click.exceptions.Exit as error:
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except click.ClickException as error:
        from hub.cli.failures import report_usage

        return report_usage(error)
    except Exception as error:
        from hub.cli.failures import report

        return report(error)
