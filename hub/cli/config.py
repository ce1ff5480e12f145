"""``hub config``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from hub.cli.output import output_option, show
from hub.cli.places import data_option


@click.group()
def config() -> None:
    """Show the settings."""


@config.command("show")
@click.option("--origin", is_flag=True, help="Say where each comes from.")
@click.option("--host", help="As for serve.")
@click.option("--port", type=click.IntRange(0, 65535), help="As for serve.")
@click.option("--flows", multiple=True, type=click.Path(path_type=Path), help="As for serve; repeatable.")
@click.option("--storage", help="As for serve.")
@click.option("--public-url", help="As for serve.")
@data_option
@output_option
@click.pass_context
def show_(
    ctx: click.Context,
    origin: bool,
    host: str | None,
    port: int | None,
    flows: tuple[Path, ...],
    storage: str | None,
    public_url: str | None,
    data: Path | None,
    format: str,
) -> None:
    """Show the settings that `serve` would use here; secrets are masked.

    They come from a flag, then HUB_*, then the file that HUB_*_FILE names, then hub.yaml in the current folder,
    then the default. Flags are those of `serve`, to see what they would change.
    """
    from hub.app import Place
    from hub.config.effective import effective_settings
    from hub.config.settings import load_settings
    from hub.registry import load_plugins

    folder = Path.cwd()
    loaded = load_settings(
        os.environ,
        folder=folder,
        flags={
            ("server", "host"): host,
            ("server", "port"): port,
            ("server", "publicUrl"): public_url,
            ("storage",): storage,
            ("flows",): [str(given.resolve()) for given in flows] or None,
        },
    )
    place = Place(loaded.settings, folder, (data or folder).resolve(), os.environ)
    found = effective_settings(loaded, load_plugins(loaded.settings.plugins))
    items: list[dict[str, Any]] = [
        {"name": "data", "value": str(place.data_dir), "origin": _data_origin(ctx)},
        *({"name": one.name, "value": one.value, "origin": one.origin} for one in found),
    ]
    for item in items:
        if item["name"] == "storage" and item["value"] is None:
            item["value"] = place.storage_url
    columns = {"name": lambda item: item["name"], "value": lambda item: _shown(item["value"])}
    if origin:
        columns["origin"] = lambda item: item["origin"]
    show(items, columns, format=format, name=lambda item: str(item["name"]), empty="no settings")


def _shown(value: Any) -> str:
    """A value as hub.yaml would spell it."""
    from hub.model import jsontext

    return value if isinstance(value, str) else "" if value is None else jsontext.dumps(value)


def _data_origin(ctx: click.Context) -> str:
    from click.core import ParameterSource

    sources = {ParameterSource.COMMANDLINE: "--data", ParameterSource.ENVIRONMENT: "HUB_DATA"}
    source = ctx.get_parameter_source("data")
    return sources.get(source, "default") if source is not None else "default"
