"""``hub demo``: serve the first blueprints, send one event, and say what to try next."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import click

from hub.errors import Conflict, StorageLocked

_SECRET = "GITHUB_WEBHOOK_SECRET"  # noqa: S105 - the name of a secret
_EVENT = {"name": "Ada"}
_MADE_BY = "HUB_MAKE"
"""Set by the Makefile."""


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8484, show_default=True, help="The port.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("data"),
    show_default=True,
    help="The data folder; created when missing.",
)
def demo(port: int, data: Path) -> None:
    """Serve the first blueprints, send one event and show what happens; Ctrl-C ends it."""
    from hub.cli.looping import run_loop
    from hub.cli.serve import end_at_sigterm

    end_at_sigterm()
    from hub.app import Place
    from hub.cli.logs import configure_logs
    from hub.config.settings import load_settings
    from hub.scaffold import blueprints_folder
    from hub.serving.serving import serve
    from hub.serving.telling import Watching

    configure_logs("WARNING")
    blueprints = blueprints_folder()
    flows = [str(blueprints / name) for name in ("hello", "github-push")]
    environ = {**os.environ}
    environ.setdefault(f"HUB_SECRET_{_SECRET}", secrets.token_hex(16))
    loaded = load_settings(
        environ,
        folder=data.resolve(),
        flags={("server", "port"): port, ("flows",): flows},
    )
    place = Place(loaded.settings, data.resolve(), data.resolve(), environ)
    with _hints_for_make(), _own_terminal():
        on_ready = partial(_show, data=data.resolve(), blueprints=blueprints)
        run_loop(serve(place, Watching(_say, on_ready=on_ready)))


@contextmanager
def _hints_for_make() -> Iterator[None]:
    """Who typed ``make run`` is told what to type with make."""
    try:
        yield
    except (Conflict, StorageLocked) as error:
        if _MADE_BY in os.environ:
            is_port = isinstance(error, Conflict)
            error.hint = (
                "end what listens there, or choose another with: make run PORT=N (0 takes a free one)"
                if is_port
                else "stop it, or start with another folder: make run DATA=FOLDER"
            )
        raise


@contextmanager
def _own_terminal() -> Iterator[None]:
    """Let Ctrl-C under make reach the hub alone: make would end as interrupted, however well the hub ends."""
    try:
        before = os.tcgetpgrp(0)
        if _MADE_BY not in os.environ or before != os.getpgrp():
            raise OSError
    except OSError:
        yield  # called by somebody else, or without a terminal
        return
    # who takes the terminal back is no longer in front; and make does not know of a Ctrl-Z
    for number in (signal.SIGTTOU, signal.SIGTSTP):
        signal.signal(number, signal.SIG_IGN)
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    try:
        yield
    finally:
        with suppress(OSError):
            os.tcsetpgrp(0, before)


def _say(line: str) -> None:
    click.echo(line)


async def _show(url: str, data: Path, blueprints: Path) -> None:
    """Send one event, follow it to its end, and print lines that work as they stand."""
    from hub.client import HubClient

    hook = f"{url}/api/v1/webhooks/demo/hello/hello"
    curl = f"curl -X POST {hook} -H 'Content-Type: application/json' -d {shlex.quote(json.dumps(_EVENT))}"
    _say(f"\n$ {curl}")
    async with HubClient(url) as client:
        began = time.monotonic()
        status, answer = await client.deliver(hook, _EVENT)
        _say(f"{status} {json.dumps(answer)}")
        execution: dict[str, str] = {}
        async for step in client.lines(f"/executions/{answer['executionIds'][0]}/stream"):
            execution = step.get("execution", execution)
        took = (time.monotonic() - began) * 1000
        _say(f"{execution['namespace']}/{execution['flow']} {execution['state']} in {took:.0f} ms")
    command = shlex.quote(str(Path(sys.executable).parent / "hub"))
    folder = shlex.quote(str(data))
    flow = shlex.quote(str(blueprints / "hello" / "hello.hub.yaml"))
    _say(
        "\nTry next, in another terminal:\n"
        f"  {curl}\n"
        f"  {command} executions get last --data {folder}\n"
        f"  {command} triggers list --data {folder}\n"
        f'  {command} run {flow} --data \'{{"name": "Grace"}}\'\n'
        f"  {command} validate {shlex.quote(str(blueprints))}\n"
        "Ctrl-C ends the hub."
    )
