"""``hub flows push``, ``pull`` and ``diff``: flow files here, flows there.

The files are checked before the hub is asked for anything, and the hub is asked for a list before it is told
anything: what differs is known before the first change.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.cli.flow_files import FOLDER, FlowFile, counted, declared_in, read_flow_files
from hub.cli.flow_plan import Change, Step, compare, digest
from hub.cli.places import server_options, with_hub
from hub.cli.progress import progress
from hub.errors import (
    Conflict,
    HubError,
    InvalidFlow,
    InvalidInput,
    NotFound,
    StorageOverloaded,
    TooLarge,
)
from hub.model.ids import FlowKey, is_id, is_namespace

if TYPE_CHECKING:
    from hub.client import HubClient

_MOST_REVISIONS = 100
"""How many old revisions are looked at before a file counts as changed here."""

paths_argument = click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
format_option = click.option(
    "-o",
    "--output",
    "format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print.",
)


@dataclass(frozen=True)
class Done:
    """What became of one flow."""

    key: FlowKey
    outcome: str
    path: Path | None = None
    revision: int | None = None
    error: HubError | None = None

    def view(self) -> dict[str, Any]:
        return {
            "namespace": self.key.namespace,
            "id": self.key.id,
            "outcome": self.outcome,
            "file": str(self.path) if self.path else None,
            "revision": self.revision,
            "error": self.error.message if self.error else None,
        }

    def line(self) -> str:
        revision = f" (revision {self.revision})" if self.revision else ""
        return f"{self.outcome:<12} {self.key}{revision}" + (f"  {self.path}" if self.path else "")


# -- push


@click.command()
@paths_argument
@click.option("--prune", is_flag=True, help="Also delete the flows that no file declares any more.")
@click.option(
    "--namespace", "namespaces", multiple=True, help="Only this namespace; repeatable.  [default: the files']"
)
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--yes", is_flag=True, help="Delete without asking; asked is on a terminal only.")
@format_option
@server_options
def push(
    paths: tuple[Path, ...],
    prune: bool,
    namespaces: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """Make a hub hold what flow files say.

    All files are checked first, here; with an error in one of them nothing is sent. Then what differs is sent,
    so a second push changes nothing. --prune deletes the flows of the same namespaces that no file declares,
    after printing their names. A flow of a folder that the hub serves belongs to its file there: it is left
    alone, and where it differs the exit code is 7.
    """
    files = read_flow_files(paths)
    changes = with_hub(server, data, lambda client: _compared(client, files, namespaces))
    unwanted = [change for change in changes if change.step is Step.DELETE]
    if prune:
        _announce(unwanted, ask=not (yes or dry_run))
        _announce_foreign(changes)
    wanted = [change for change in changes if change.file is not None] + (unwanted if prune else [])
    if dry_run:
        done = [_planned(change) for change in wanted]
    else:
        done = with_hub(server, data, lambda client: _carry_out(client, wanted))
    _show_done(done, format)
    if unwanted and not prune:
        names = ", ".join(str(change.key) for change in unwanted)
        click.echo(f"no file declares {names}: --prune would delete them", err=True)
    _end(done)


async def _compared(
    client: HubClient, files: Sequence[FlowFile], namespaces: Collection[str]
) -> list[Change]:
    served = (await client.get("/flows"))["items"]
    return compare(files, served, namespaces or {file.key.namespace for file in files})


def _announce(unwanted: Sequence[Change], *, ask: bool) -> None:
    """Say what will be deleted, and let a person at a terminal say no. Ends the command then."""
    if not unwanted:
        return
    click.echo(f"{counted(len(unwanted), 'flow')} that no file declares, to be deleted:", err=True)
    for change in unwanted:
        click.echo(f"  {change.key} (revision {change.revision})", err=True)
    if not ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return
    if not click.confirm("Delete?", err=True):
        click.echo("nothing was changed", err=True)
        raise click.exceptions.Exit(1)


def _announce_foreign(changes: Sequence[Change]) -> None:
    for change in changes:
        if change.step is Step.SKIP and change.file is None:
            click.echo(f"left alone: {change.key} belongs to the hub's own file {change.origin}", err=True)


_PLANNED = {
    Step.CREATE: "would create",
    Step.CHANGE: "would change",
    Step.KEEP: "unchanged",
    Step.DELETE: "would delete",
    Step.SKIP: "skipped",
}


def _planned(change: Change) -> Done:
    return Done(change.key, _PLANNED[change.step], _path(change), change.revision, _owned(change))


async def _carry_out(client: HubClient, changes: Sequence[Change]) -> list[Done]:
    """Send what differs, then delete; nothing is deleted once something has failed."""
    done: list[Done] = []
    ordered = sorted(changes, key=lambda change: change.step is Step.DELETE)
    for change in progress(ordered, "pushing"):
        if change.step is Step.DELETE and any(one.outcome == "failed" for one in done):
            break
        try:
            done.append(await _apply(client, change))
        except HubError as error:
            done.append(Done(change.key, "failed", _path(change), change.revision, _in_file(error, change)))
            if not isinstance(error, _REFUSALS):
                break
    if left := ordered[len(done) :]:
        click.echo(f"not tried any more: {', '.join(str(change.key) for change in left)}", err=True)
    return done


# what the hub says about one flow; of anything else the next flow would hear the same
_REFUSALS = (InvalidInput, Conflict, TooLarge, StorageOverloaded)


async def _apply(client: HubClient, change: Change) -> Done:
    if change.step is Step.DELETE:
        # gone already is what was wanted
        with contextlib.suppress(NotFound):
            await client.delete_flow(change.key)
        return Done(change.key, "deleted", None, change.revision)
    if change.file is None or change.step not in (Step.CREATE, Step.CHANGE):
        return _planned(change)
    stored = await client.put_flow(change.key, change.file.source)
    # another push may have been quicker: then there was nothing left to change
    outcome = f"{change.step.value}d" if stored["changed"] else "unchanged"
    return Done(change.key, outcome, change.file.path, stored["revision"])


def _in_file(error: HubError, change: Change) -> HubError:
    """The hub's findings, named by the file that was sent."""
    if isinstance(error, InvalidFlow):
        return InvalidFlow([replace(problem, file=str(_path(change))) for problem in error.problems])
    return error


def _path(change: Change) -> Path | None:
    return change.file.path if change.file is not None else None


def _owned(change: Change) -> Conflict | None:
    """Why a flow is left alone; none where no file here wants it changed."""
    if change.step is not Step.SKIP or change.file is None:
        return None
    return Conflict(
        f"flow {change.key} belongs to the hub's own file {change.origin}, and {change.file.path} differs",
        hint="change that file, or take it away to have the flow from here",
    )


# -- pull


@click.command()
@click.argument("folder", required=False, type=click.Path(file_okay=False, path_type=Path))
@click.option("--namespace", "namespaces", multiple=True, help="Only this namespace; repeatable.")
@click.option("--force", is_flag=True, help="Overwrite files that were changed here.")
@format_option
@server_options
def pull(
    folder: Path | None,
    namespaces: tuple[str, ...],
    force: bool,
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """Write a hub's flows to files, byte for byte.

    A flow goes to the file below FOLDER (by default ./flows) that declares it, else to
    NAMESPACE/ID.hub.yaml. A file whose text the hub has never held was changed here: it is left as it is,
    with exit code 7, unless --force is given. No file is removed.
    """
    into = folder or FOLDER
    done = with_hub(server, data, lambda client: _pull(client, into, namespaces, force))
    _show_done(done, format)
    _end(done)


async def _pull(client: HubClient, folder: Path, namespaces: Collection[str], force: bool) -> list[Done]:
    served = (await client.get("/flows"))["items"]
    wanted = [one for one in served if not namespaces or one["namespace"] in namespaces]
    declared = declared_in(folder)
    done: list[Done] = []
    for key, one in progress([(_checked_key(one), one) for one in wanted], "pulling"):
        path = declared.get(key) or folder / key.namespace / f"{key.id}.hub.yaml"
        try:
            done.append(await _pull_one(client, key, one, path, force))
        except HubError as error:
            # what was written until now is told all the same
            done.append(Done(key, "failed", path, one["revision"], error))
            break
    return done


def _checked_key(served: Mapping[str, Any]) -> FlowKey:
    """A name that may become a path: whoever answers, nothing is written outside the folder."""
    key = FlowKey(str(served["namespace"]), str(served["id"]))
    if not is_namespace(key.namespace) or not is_id(key.id):
        raise InvalidInput(f"the hub names a flow {str(key)!r}, which cannot be a flow's name")
    return key


async def _pull_one(
    client: HubClient, key: FlowKey, served: Mapping[str, Any], path: Path, force: bool
) -> Done:
    revision: int = served["revision"]
    try:
        here = path.read_bytes() if path.exists() else None
    except OSError as error:
        raise HubError(f"{path} cannot be read: {error.strerror}") from error
    if here is not None and digest(here) == served["sourceHash"]:
        return Done(key, "unchanged", path, revision)
    if here is not None and not force and not await _is_known(client, key, here, below=revision):
        conflict = Conflict(
            f"{path} has changes that the hub does not know",
            hint="hub flows diff shows them, hub flows push sends them, --force overwrites them",
        )
        return Done(key, "skipped", path, revision, conflict)
    _write(path, await client.flow_source(key, revision))
    return Done(key, "written" if here is None else "overwritten", path, revision)


async def _is_known(client: HubClient, key: FlowKey, source: bytes, *, below: int) -> bool:
    """Whether the hub has held this very text, so that overwriting it loses nothing."""
    found = (await client.get(f"/flows/{key.namespace}/{key.id}/revisions"))["items"]
    older = [one["revision"] for one in found if one["revision"] < below][:_MOST_REVISIONS]
    for revision in older:
        if await client.flow_source(key, revision) == source:
            return True
    return False


def _write(path: Path, source: bytes) -> None:
    """Put a file in its place at once, so that a hub that watches the folder never reads half of it."""
    # a link keeps leading to its file
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.new")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(source)
        if target.exists():
            shutil.copymode(target, temporary)
        temporary.replace(target)
    except OSError as error:
        raise HubError(f"{path} cannot be written: {error.strerror}") from error


# -- diff


@click.command()
@paths_argument
@click.option("--prune", is_flag=True, help="Also show the flows that `push --prune` would delete.")
@click.option(
    "--namespace", "namespaces", multiple=True, help="Only this namespace; repeatable.  [default: the files']"
)
@format_option
@server_options
def diff(
    paths: tuple[Path, ...],
    prune: bool,
    namespaces: tuple[str, ...],
    format: str,
    server: str | None,
    data: Path | None,
) -> None:
    """Show what a push would change.

    A unified diff from the hub's flows to the files. Exit code 9 when something differs, 0 when nothing does.
    """
    from hub.cli.failures import DIFFERS

    files = read_flow_files(paths)

    async def work(client: HubClient) -> list[dict[str, Any]]:
        changes = await _compared(client, files, namespaces)
        differing = [change for change in changes if _is_shown(change, prune)]
        return [await _difference(client, change) for change in progress(differing, "comparing")]

    found = with_hub(server, data, work)
    if format == "json":
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for one in found:
            click.echo("".join(_coloured(one["diff"])), nl=False)
    click.echo(f"{counted(len(found), 'flow')} {'differs' if len(found) == 1 else 'differ'}", err=True)
    if found:
        raise click.exceptions.Exit(DIFFERS)


def _is_shown(change: Change, prune: bool) -> bool:
    if change.step is Step.DELETE:
        return prune
    return change.step is not Step.KEEP and change.file is not None


async def _difference(client: HubClient, change: Change) -> dict[str, Any]:
    before = await client.flow_source(change.key, change.revision) if change.revision else b""
    path = _path(change)
    return {
        "namespace": change.key.namespace,
        "id": change.key.id,
        "change": "change" if change.step is Step.SKIP else change.step.value,
        "file": str(path) if path else None,
        "revision": change.revision,
        "origin": change.origin,
        "diff": unified(
            before,
            change.file.source if change.file else b"",
            f"{change.key} (revision {change.revision})" if change.revision else "/dev/null",
            str(path) if path else "/dev/null",
        ),
    }


def unified(before: bytes, after: bytes, from_name: str, to_name: str) -> str:
    """A unified diff of two texts; lines end where patch ends them, at a line feed."""
    parts = difflib.unified_diff(_lines(before), _lines(after), from_name, to_name)
    return "".join(part if part.endswith("\n") else f"{part}\n{_NO_END}" for part in parts)


_NO_END = "\\ No newline at end of file\n"


def _lines(source: bytes) -> list[str]:
    lines = source.decode("utf-8", "replace").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _coloured(text: str) -> Iterator[str]:
    colours = {"+": "green", "-": "red", "@": "cyan"}
    for line in text.splitlines(keepends=True):
        yield click.style(line, fg=colours[line[0]]) if line[0] in colours else line


# -- what all of them say


def _show_done(done: Sequence[Done], format: str) -> None:
    if format == "json":
        click.echo(json.dumps([one.view() for one in done], indent=2, ensure_ascii=False))
    else:
        for one in done:
            click.echo(one.line())
    counts = Counter(one.outcome for one in done)
    click.echo(", ".join(f"{number} {outcome}" for outcome, number in counts.items()) or "no flows", err=True)


def _end(done: Iterable[Done]) -> None:
    """Say what went wrong, and end the command with the first of it."""
    from hub.cli.failures import report

    codes = [report(one.error) for one in done if one.error is not None]
    if codes:
        raise click.exceptions.Exit(codes[0])
