"""``hub plugins install`` and ``uninstall``: with the environment's own tool, and never at the hub's expense."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from hub.environment import Changes, Tool

_GROUP = "hub.plugins"


@click.command()
@click.argument("packages", nargs=-1, required=True, metavar="PACKAGE…")
@click.option("-U", "--upgrade", is_flag=True, help="Take the newest version of each that fits.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
@click.option(
    "--change-dependencies", is_flag=True, help="Also where that changes what the hub itself depends on."
)
def install(packages: tuple[str, ...], upgrade: bool, dry_run: bool, change_dependencies: bool) -> None:
    """Install plugins.

    With the tool that this environment was made with: pip, uv, pipx or uv tool.

    PACKAGE is what that tool takes: a name, name==version, a wheel, a folder. It is asked first what it would do,
    with the hub's own dependencies kept as they are; where that cannot be, nothing is done and the exit code is 7.
    """
    from hub.environment import find_tool

    tool = find_tool()
    with _kept(not change_dependencies) as keeping:
        changes = _plan(tool, packages, upgrade, keeping)
        _say(changes, tool.name)
        if dry_run or not changes.items:
            return
        before = _versions()
        tool.install(packages, upgrade=upgrade, keeping=keeping)
    _report(before)


@contextmanager
def _kept(is_wanted: bool) -> Iterator[Path | None]:
    """A file that keeps a tool from changing what the hub depends on."""
    from hub.environment.changes import constraints

    if not is_wanted:
        yield None
        return
    with tempfile.NamedTemporaryFile("w", prefix="asynchub-", suffix=".txt") as file:
        file.write(constraints())
        file.flush()
        yield Path(file.name)


def _plan(tool: Tool, packages: Sequence[str], upgrade: bool, keeping: Path | None) -> Changes:
    """What the tool would do. Raises ``Conflict`` naming what of the hub's own it would change."""
    from hub.errors import Conflict

    try:
        return tool.plan(packages, upgrade=upgrade, keeping=keeping)
    except Conflict:
        if keeping is None:
            raise
        try:
            changes = tool.plan(packages, upgrade=upgrade)
        except Conflict:
            changes = None
        if changes is not None and (own := changes.of_the_hubs_own()):
            raise Conflict(
                f"this would change what the hub itself depends on: {', '.join(map(str, own))}",
                hint="choose another version of the plugin, or allow it with --change-dependencies",
            ) from None
        raise


@click.command()
@click.argument("names", nargs=-1, required=True, metavar="NAME…")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def uninstall(names: tuple[str, ...], dry_run: bool) -> None:
    """Take plugins out again.

    With the tool that this environment was made with.

    NAME is a plugin's or a distribution's. What it depended on stays; uv tool alone takes that along.
    """
    from hub.environment import Changes, find_tool
    from hub.environment.changes import dependents_of
    from hub.errors import Conflict

    tool = find_tool()
    distributions = [_distribution_of(name) for name in names]
    changes = Changes.of(dict.fromkeys(distributions))
    _say(changes, tool.name)
    for needed, others in dependents_of(distributions).items():
        raise Conflict(
            f"{needed} is needed by {', '.join(sorted(others))}", hint="take those out too, or first"
        )
    if not dry_run:
        tool.uninstall(distributions)
        click.echo("a running hub goes on with what it has until: hub reload", err=True)


def _distribution_of(name: str) -> str:
    """The distribution behind a name. Raises ``NotFound``, ``InvalidInput``."""
    from hub.environment.changes import HUB, normal
    from hub.errors import InvalidInput, NotFound, did_you_mean

    bringing: dict[str, str] = {}
    for point in metadata.entry_points(group=_GROUP):
        if point.dist is not None:
            bringing[point.name] = bringing[normal(point.dist.name)] = point.dist.name
    found = bringing.get(name) or bringing.get(normal(name))
    if found is None:
        others = [one for one, dist in bringing.items() if normal(dist) != HUB]
        raise NotFound(f'no plugin "{name}" is installed', hint=did_you_mean(name, others))
    if normal(found) == HUB:
        raise InvalidInput(
            f'the plugin "{name}" is part of the hub',
            hint=f"leave it out with plugins: {{{name}: {{enabled: false}}}} in hub.yaml",
        )
    return found


def _say(changes: Changes, tool: str) -> None:
    if not changes.items:
        click.echo("nothing would change: all of it is installed", err=True)
    for change in changes.items:
        click.echo(f"{tool}: {change}", err=True)


def _versions() -> dict[str, str]:
    """The version of each plugin that is installed."""
    found = metadata.entry_points(group=_GROUP)
    return {point.name: point.dist.version for point in found if point.dist is not None}


def _report(before: Mapping[str, str]) -> None:
    """Say what the plugins are that are new or other ones. Raises ``PluginError`` for one that cannot be loaded."""
    from hub.errors import PluginError

    broken = []
    for one in _plugins():
        if before.get(one["name"]) == one["version"]:
            continue
        types = f": {', '.join(one['types'])}" if one["types"] else ""
        click.echo(f"{one['name']} {one['version']} {one['state']}{types}")
        if one["error"]:
            broken.append(str(one["error"]))
    if broken:
        raise PluginError("; ".join(broken), hint="it is installed; hub plugins uninstall takes it out again")
    click.echo("a running hub takes it up with: hub reload", err=True)


def _plugins() -> list[Any]:
    """The plugins as a new process sees them: this one has loaded what was there before."""
    command = [sys.executable, "-m", "hub", "plugins", "list", "-o", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603 - ourselves
    found: list[Any] = json.loads(done.stdout) if done.returncode == 0 else []
    return found
