"""The hooks of the built-in plugin ``secrets``."""

from __future__ import annotations

from collections.abc import Iterable

from hub.plugin import SecretSource, hookimpl
from plugins_core.secrets.sources import EnvironmentSource, FileSource


@hookimpl
def register_secret_sources() -> Iterable[type[SecretSource]]:
    return [EnvironmentSource, FileSource]
