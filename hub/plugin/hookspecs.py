"""The hooks: what a plugin module may define.

Hooks are plain functions, collected once when the hub starts, plugin by plugin. None is called per event.
Arguments may be added, never removed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import pluggy
from pydantic import BaseModel

from hub.plugin.checks import Check
from hub.plugin.file_store import FileStore
from hub.plugin.listener import Listener
from hub.plugin.notifier import Notifier
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import Storage
from hub.plugin.task import Task
from hub.plugin.trigger import Trigger

PROJECT = "hub"
GROUP = "hub.plugins"
"""The entry-point group plugins are found by."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_tasks() -> Iterable[type[Task]]:  # type: ignore[empty-body]
    """The task types this plugin brings."""


@hookspec
def register_triggers() -> Iterable[type[Trigger]]:  # type: ignore[empty-body]
    """The trigger types this plugin brings."""


@hookspec
def register_storages() -> Iterable[type[Storage]]:  # type: ignore[empty-body]
    """The storages this plugin brings, chosen by the scheme of the storage URL."""


@hookspec
def register_file_stores() -> Iterable[type[FileStore]]:  # type: ignore[empty-body]
    """The file stores this plugin brings."""


@hookspec
def register_notifiers() -> Iterable[type[Notifier]]:  # type: ignore[empty-body]
    """The notifier types this plugin brings."""


@hookspec
def register_secret_sources() -> Iterable[type[SecretSource]]:  # type: ignore[empty-body]
    """The secret sources this plugin brings."""


@hookspec
def register_listeners() -> Iterable[type[Listener]]:  # type: ignore[empty-body]
    """The listeners this plugin brings, each told of what happens behind a bounded queue of its own."""


@hookspec
def register_expression_functions() -> Mapping[str, Callable[..., object]]:  # type: ignore[empty-body]
    """Functions for expressions, by name: pure, quick, over plain JSON values."""


@hookspec
def settings_model() -> type[BaseModel] | None:
    """The model of this plugin's settings under ``plugins.<name>``."""


@hookspec
def register_cleaners() -> Iterable[Callable[[str], Awaitable[int]]]:  # type: ignore[empty-body]
    """What ends the processes that a killed hub left behind; called before the hub starts anything.

    Each is given the installation's name, which ``ctx.process_token`` begins with, and answers how many
    processes it ended.
    """


@hookspec
def register_checks() -> Iterable[Check]:  # type: ignore[empty-body]
    """What ``hub doctor PLUGIN`` looks at: async generators of ``Examined``, given settings and a secret's reader."""
