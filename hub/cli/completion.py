"""``hub completion``, and what a shell is told on Tab beyond the names of commands and options.

A parameter is completed by what its metavar says: ``NAMESPACE/FLOW`` and ``--flow`` by the flows of the hub that
serves the data folder, ``ID`` below ``executions`` and ``events`` by the newest ones. Where no hub answers at
once, there is nothing to offer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from hub.cli.lazy import LazyGroup

_SHELLS = ("bash", "zsh", "fish")
_NEWEST = 20


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes both `hub` and `asynchub` in a shell.

    \b
    bash  echo 'source <(hub completion bash)' >> ~/.bashrc
    zsh   echo 'source <(hub completion zsh)' >> ~/.zshrc     (after compinit)
    fish  hub completion fish > ~/.config/fish/completions/hub.fish
    """
    from hub.cli.root import NAMES

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"this click does not know {shell}")
    for name in NAMES:
        click.echo(kind(ctx.find_root().command, {}, name, f"_{name.upper()}_COMPLETE").source())


def install(cli: LazyGroup) -> None:
    """Let the commands complete flows and ids too, as each is loaded."""
    cli.when_loaded = lambda command: _attach(command, (command.name or "",))


def _attach(command: click.Command, path: Sequence[str]) -> None:
    if isinstance(command, click.Group):
        for name, below in command.commands.items():
            _attach(below, (*path, name))
    for parameter in command.params:
        kind = _kind(parameter, path[0])
        if kind is not None and isinstance(parameter.type, click.types.StringParamType):
            parameter.type = kind


def _kind(parameter: click.Parameter, group: str) -> _FromHub | None:
    metavar = parameter.metavar or ""
    if "NAMESPACE/FLOW" in metavar or parameter.name == "flow":
        return _FromHub("flows", with_files="FILE" in metavar)
    if metavar.startswith("ID") and group in ("executions", "events"):
        return _FromHub(group, with_last="last" in metavar)
    return None


class _FromHub(click.types.StringParamType):
    """Text that the running hub can complete."""

    def __init__(self, what: str, *, with_files: bool = False, with_last: bool = False) -> None:
        self._what = what
        self._with_files = with_files
        self._with_last = with_last

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        items = [CompletionItem(incomplete, type="file")] if self._with_files else []
        names = [("last", "the newest")] if self._with_last else []
        names += [_ABOUT[self._what](one) for one in _items(ctx, self._what)]
        return items + [
            CompletionItem(name, help=about) for name, about in names if name.startswith(incomplete)
        ]


_ABOUT: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "flows": lambda item: (f"{item['namespace']}/{item['id']}", item.get("description") or "a flow"),
    "executions": lambda item: (item["id"], f"{item['namespace']}/{item['flow']} {item['state']}"),
    "events": lambda item: (item["id"], item["source"]),
}
"""What an item is called, and a word about it."""


def _items(ctx: click.Context, what: str) -> list[dict[str, Any]]:
    from hub.cli.places import hub_address, hub_token
    from hub.cli.quick import get_json
    from hub.errors import HubError

    data = ctx.params.get("data_folder") or ctx.params.get("data")
    try:
        url = ctx.params.get("server") or hub_address(data)
        # the list of flows is whole; the others are asked for their newest
        query = "" if what == "flows" else f"?limit={_NEWEST}"
        status, found = get_json(url, f"/api/v1/{what}{query}", token=hub_token())
        return list(found["items"]) if status == 200 else []
    except (HubError, OSError, ValueError, KeyError, TypeError):
        return []  # a shell shows nothing rather than an error in the middle of a line
