"""``hub serve``."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Coroutine, Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any, TypeVar

import click

from hub.cli.looping import run_loop
from hub.cli.places import data_option

T = TypeVar("T")


@click.command()
@click.option(
    "--host", help="The address to listen on; others than loopback need HUB_TOKEN.  [default: 127.0.0.1]"
)
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.  [default: 8484]")
@data_option
@click.option(
    "--flows",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder of *.hub.yaml flows, and of a tasks.py that is loaded; repeatable, replaces the setting."
    "  [default: flows]",
)
@click.option("--storage", help="The storage's URL.  [default: sqlite, hub.db in the data folder]")
@click.option(
    "--dev", is_flag=True, help="Load the plugins of --plugin again whenever one of their files is saved."
)
@click.option(
    "--plugin",
    "plugins",
    multiple=True,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="With --dev: the folder of a plugin's project, which need not be installed; repeatable.",
)
@click.option("--public-url", help="How the world reaches this hub; begins every printed webhook URL.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    envvar="HUB_LOG_LEVEL",
    show_default=True,
    help="What to log to stderr.",
)
def serve(
    host: str | None,
    port: int | None,
    data: Path | None,
    flows: tuple[Path, ...],
    storage: str | None,
    public_url: str | None,
    dev: bool,
    plugins: tuple[Path, ...],
    log_level: str,
) -> None:
    """Serve: API, triggers and engine in one process.

    Settings come from hub.yaml in the current folder, where there is one; it need not exist. The data folder
    (by default the current one) holds hub.db, the file store, the lock and the address of the running hub.
    """
    if dev != bool(plugins):
        raise click.UsageError("--dev and --plugin PATH go together")
    end_at_sigterm()
    from hub.serving.predecessor import Predecessor

    predecessor = Predecessor.of(os.environ)
    with predecessor.told_of_failure() if predecessor is not None else nullcontext():
        from hub.cli.logs import configure_logs

        configure_logs(log_level)
        from hub.app import Place
        from hub.config.settings import load_settings
        from hub.registry import read_project
        from hub.serving.serving import serve as serve_place
        from hub.serving.stand_in import become
        from hub.serving.telling import Watching

        folder = Path.cwd()
        loaded = load_settings(
            os.environ,
            folder=folder,
            flags={
                ("server", "host"): host,
                ("server", "port"): port,
                ("server", "publicUrl"): public_url,
                ("storage",): storage,
                ("flows",): [str(resolved(given)) for given in flows] or None,
            },
        )
        serving = serve_place(
            Place(loaded.settings, folder, resolved(data or folder), os.environ),
            Watching(_say, _say_end if sys.stdout.isatty() else None),
            task_folders=[resolved(given) for given in flows],
            predecessor=predecessor,
            can_reload=True,
            projects=[read_project(resolved(one)) for one in plugins],
        )
        heir = run_loop(_deaf_at_last(serving))
    if heir is not None and heir.reading is not None:
        # whoever started this process goes on with it, whichever process the hub is
        become(heir.pid, heir.reading)


def _say(line: str) -> None:
    """A line for whoever watches; that nobody can read it is no reason to end the hub."""
    with suppress(OSError):
        click.echo(line)


def _say_end(ended: Mapping[str, Any]) -> None:
    """One line for each execution that ended."""
    from hub.cli.steps import took

    colour = {"SUCCESS": "green", "WARNING": "yellow"}.get(ended["state"], "red")
    seconds = float(ended["seconds"])
    _say(
        f"{ended.get('flow', '')} {click.style(ended['state'], fg=colour)} in {took(seconds)}  {ended['id']}"
    )


def resolved(path: Path) -> Path:
    """The folder behind links; what leads in circles stays as it is, to be found wrong by its name."""
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path.absolute()


async def _deaf_at_last(serving: Coroutine[Any, Any, T]) -> T:
    """Hear no signal any more once a hub has come to its end: one would end the process as if it had not."""
    found = await serving
    if found is None:  # else another process is the hub, which is sent what this one is sent
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
    return found


def end_at_sigterm() -> None:
    """A SIGTERM before anything has begun ends the process as one that comes later does: with 0."""
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
