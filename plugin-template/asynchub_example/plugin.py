"""The hooks: what of this plugin the hub is told of. It finds this module by its entry point."""

from collections.abc import Callable, Mapping

from pydantic import BaseModel

from asynchub_example.functions import example_short
from asynchub_example.notifier import Tell
from asynchub_example.secret_source import JsonFileSource
from asynchub_example.settings import ExampleSettings
from asynchub_example.storage.storage import ExampleStorage
from asynchub_example.tasks import Send
from asynchub_example.triggers import Messages
from hub.plugin import Notifier, SecretSource, Storage, Task, Trigger, hookimpl

HUB_API = 1


@hookimpl
def settings_model() -> type[BaseModel]:
    return ExampleSettings


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Send]


@hookimpl
def register_triggers() -> list[type[Trigger]]:
    return [Messages]


@hookimpl
def register_notifiers() -> list[type[Notifier]]:
    return [Tell]


@hookimpl
def register_expression_functions() -> Mapping[str, Callable[..., object]]:
    return {"example_short": example_short}


@hookimpl
def register_secret_sources() -> list[type[SecretSource]]:
    return [JsonFileSource]


@hookimpl
def register_storages() -> list[type[Storage]]:
    return [ExampleStorage]
