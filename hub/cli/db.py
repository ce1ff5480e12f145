"""``hub db``: the storage itself, without a hub that serves it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hub.cli.places import data_option

if TYPE_CHECKING:
    from hub.app import Place

storage_option = click.option(
    "--storage", help="The storage's URL.  [default: HUB_STORAGE, hub.yaml, or hub.db in the data folder]"
)


@click.group()
def db() -> None:
    """Bring a storage up to date, look at it, back it up, and copy it into another."""


@db.command()
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@storage_option
@data_option
def migrate(dry_run: bool, storage: str | None, data: Path | None) -> None:
    """Bring the storage's tables up to date.

    A hub does so itself when it starts; this does it before, with nothing else. Several at once wait for each other.
    """
    from hub.app import opened_storage, schema_of

    place = _place(storage, data)

    async def work() -> None:
        before = await schema_of(place)
        if not before.pending:
            click.echo(f"up to date: {len(before.applied)} steps")
            return
        for name in before.pending:
            click.echo(f"{'would apply' if dry_run else 'apply'} {name}")
        if not dry_run:
            async with opened_storage(place):
                pass

    asyncio.run(work())


@db.command()
@storage_option
@data_option
def status(storage: str | None, data: Path | None) -> None:
    """Say what the storage is and how its tables stand."""
    from hub.app import schema_of, shown_url, storage_type

    place = _place(storage, data)

    async def work() -> None:
        schema = await schema_of(place)
        click.echo(f"storage   {shown_url(place.storage_url)}")
        click.echo(f"type      {storage_type(place)}")
        click.echo(f"applied   {', '.join(schema.applied) or 'nothing yet'}")
        click.echo(f"pending   {', '.join(schema.pending) or 'nothing'}")

    asyncio.run(work())


@db.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@storage_option
@data_option
def backup(file: Path, storage: str | None, data: Path | None) -> None:
    """Write everything, files included, into FILE, as of one moment.

    Over PostgreSQL hubs may go on meanwhile; over SQLite none may serve the data folder. FILE goes back into an
    empty storage with: hub db copy --from FILE --to URL.
    """
    from hub import __version__
    from hub.app import opened_storage
    from hub.clock import SystemClock
    from hub.engine.moving import back_up

    place = _place(storage, data)

    async def work() -> Counter[str]:
        async with opened_storage(place) as (kept, files):
            return await back_up(
                kept, files, file, version=__version__, at=SystemClock().now(), said=_progress
            )

    _say(asyncio.run(work()), f"backed up into {file}")


@db.command()
@click.option("--from", "source", required=True, metavar="URL|FILE", help="A storage's URL, or a backup.")
@click.option("--to", "target", required=True, metavar="URL", help="An empty storage's URL.")
@click.option(
    "--from-data",
    type=click.Path(path_type=Path),
    help="The data folder of --from, for its files.  [default: its own]",
)
@data_option
def copy(source: str, target: str, from_data: Path | None, data: Path | None) -> None:
    """Copy everything into an empty storage, or nothing.

    Files are included.

    No hub may serve --from meanwhile. What was under way goes on with the first hub that serves --to.
    """
    from hub.app import opened_storage
    from hub.engine import moving

    to = _place(target, data)

    async def from_file(path: Path) -> Counter[str]:
        async with opened_storage(to) as (storage, files):
            return await moving.restore(path, storage, files, said=_progress)

    async def from_storage() -> Counter[str]:
        origin = _place(source, from_data or _folder_of(source))
        async with opened_storage(origin) as one, opened_storage(to, beside=origin) as other:
            return await moving.copy(one, other, said=_progress)

    is_file = "://" not in source and Path(source).exists()
    work: Callable[[], Awaitable[Counter[str]]] = (
        (lambda: from_file(Path(source))) if is_file else from_storage
    )
    _say(asyncio.run(_run(work)), f"copied into {_shown(target)}")


async def _run(work: Callable[[], Awaitable[Counter[str]]]) -> Counter[str]:
    return await work()


def _folder_of(url: str) -> Path | None:
    """The data folder that goes with a database file: where it lies."""
    if not url.startswith("sqlite:///"):
        return None
    return Path(url.removeprefix("sqlite:///")).parent


def _place(storage: str | None, data: Path | None) -> Place:
    from hub.app import Place
    from hub.cli.logs import configure_logs
    from hub.config.settings import load_settings

    configure_logs("warning")
    folder = Path.cwd()
    loaded = load_settings(os.environ, folder=folder, flags={("storage",): storage})
    return Place(loaded.settings, folder, (data or folder).resolve(), os.environ)


def _progress(what: str, count: int) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{what}: {count:,}\x1b[K", err=True, nl=False)


def _say(moved: Counter[str], done: str) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    for what, count in moved.items():
        click.echo(f"{count:>12,} {what.replace('_', ' ')}")
    click.echo(done)


def _shown(url: str) -> str:
    from hub.app import shown_url

    return shown_url(url)
