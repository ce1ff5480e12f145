"""Where a command works: its settings folder, its data folder, the hub it talks to."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from hub.errors import Unreachable

if TYPE_CHECKING:
    from hub.client import HubClient

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_ADDRESS_FILE = "hub.address"


def data_option(function: F) -> F:
    """``--data DIR``."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HUB_DATA",
        help="The data folder; by default the current one.",
    )(function)


def server_options(function: F) -> F:
    """``--server URL`` and ``--data DIR``: how client commands find their hub."""
    function = data_option(function)
    return click.option(
        "--server", envvar="HUB_SERVER", help="The hub's URL; by default the one that serves the data folder."
    )(function)


def hub_options(function: F) -> F:
    """``server_options`` for commands whose ``--data`` is something else: ``--server`` and ``--data-folder``."""
    function = click.option(
        "--data-folder",
        type=click.Path(file_okay=False, path_type=Path),
        envvar="HUB_DATA",
        help="The data folder; by default the current one.",
    )(function)
    return click.option(
        "--server", envvar="HUB_SERVER", help="The hub's URL; by default the one that serves the data folder."
    )(function)


def with_hub(server: str | None, data: Path | None, work: Callable[[HubClient], Coroutine[Any, Any, T]]) -> T:
    """Do ``work`` with a client of the hub. Raises ``Unreachable`` when there is none."""

    async def run() -> T:
        async with hub_client(server, data) as client:
            return await work(client)

    return asyncio.run(run())


def hub_client(server: str | None, data: Path | None) -> HubClient:
    """A client of the hub. Raises ``Unreachable`` when none serves the folder."""
    from hub.client import HubClient

    # a token of hub.yaml is for the hub of this very folder, and is sent to no other
    token = hub_token() or (configured_token(data) if server is None else None)
    return HubClient(server or hub_address(data), token)


def hub_address(data: Path | None) -> str:
    """The URL of the hub that serves a data folder. Raises ``Unreachable`` when none does."""
    path = (data or Path.cwd()) / _ADDRESS_FILE
    try:
        url = json.loads(path.read_text(encoding="utf-8"))["url"]
        if not isinstance(url, str):
            raise TypeError(url)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise Unreachable(
            f"no hub serves {path.parent}",
            hint="start one there with: hub serve, or name one with --server URL, HUB_SERVER or --data DIR",
        ) from None
    return url


def hub_token() -> str | None:
    """The token of the environment, as the server reads it. Raises ``InvalidSettings``."""
    if not os.environ.keys() & {"HUB_TOKEN", "HUB_TOKEN_FILE"}:
        return None
    from hub.config.settings import from_environment

    found = from_environment(os.environ, "HUB_TOKEN")
    return found[0].rstrip("\r\n") if found else None


def configured_token(data: Path | None) -> str | None:
    """The token that ``hub.yaml`` gives the hub of a folder. Raises ``InvalidSettings``."""
    for folder in (Path.cwd(), data):
        try:
            text = (folder / "hub.yaml").read_text(encoding="utf-8") if folder is not None else ""
        except (OSError, UnicodeDecodeError):
            continue
        if folder is not None and "token" in text:
            # only then is it worth the fifth of a second that reading settings costs
            from hub.config.settings import load_settings

            token = load_settings(os.environ, folder=folder).settings.server.token
            return token.get_secret_value() if token is not None else None
    return None


def newest_execution(client: HubClient, name: str) -> Coroutine[Any, Any, str]:
    """The id behind a name: ``last`` is the newest execution. Raises ``NotFound``."""

    async def find() -> str:
        if name != "last":
            return name
        from hub.errors import NotFound

        found = await client.get("/executions", [("limit", "1")])
        if not found["items"]:
            raise NotFound("there is no execution yet", hint="start one with: hub run NAMESPACE/FLOW")
        return str(found["items"][0]["id"])

    return find()


def flow_query(namespace: str | None, flow: str | None) -> list[tuple[str, str]]:
    """What ``--namespace`` and ``--flow`` ask for; a flow may be named ``NAMESPACE/FLOW``."""
    if flow and "/" in flow:
        namespace, _, flow = flow.partition("/")
    return [(name, value) for name, value in (("namespace", namespace), ("flow", flow)) if value]
