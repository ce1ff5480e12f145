"""``hub schema``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.option("--settings", "of_settings", is_flag=True, help="The schema of hub.yaml instead of flow files.")
@click.option("--vscode", is_flag=True, help="Write both below ./.vscode and make the editor use them.")
def schema(of_settings: bool, vscode: bool) -> None:
    """Print the JSON Schema of flow files, with the fields of every installed plugin; needs no hub.

    --vscode adds to .vscode/settings.json and keeps what is there. Other editors find the schema by the first
    line of a flow: # yaml-language-server: $schema=PATH
    """
    from hub.config.schema import flow_schema, settings_schema
    from hub.registry import load_plugins
    from hub.scaffold import write_schemas
    from hub.scaffold.editor import schema_text

    if of_settings and vscode:
        raise click.UsageError("--vscode writes both schemas: leave --settings out")
    registry = load_plugins({})
    if not vscode:
        document = settings_schema(registry) if of_settings else flow_schema(registry)
        click.echo(schema_text(document), nl=False)
        return
    for one in write_schemas(Path(), registry):
        click.echo(f"{one.action} {one.path}")
