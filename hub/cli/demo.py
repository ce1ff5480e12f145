"""``hub demo``: serve the first blueprints, send one event, and say what to try next."""

from __future__ import annotations

import json
import os
import secrets
import shlex
import sys
import time
from pathlib import Path

import click

_SECRET = "GITHUB_WEBHOOK_SECRET"  # noqa: S105 - the name of a secret
_EVENT = {"name": "Ada"}


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
    from hub.app import Place, serve
    from hub.cli.logs import configure_logs
    from hub.cli.serve import run_loop
    from hub.config.settings import load_settings
    from hub.scaffold import blueprints_folder

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
    run_loop(serve(place, say=_say, on_ready=lambda url: _show(url, data.resolve(), blueprints)))


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
