"""The hooks: what of this plugin the hub is told of. It finds this module by its entry point."""

from pydantic import BaseModel

from asynchub_sqlquery.settings import SqlSettings
from asynchub_sqlquery.tasks import Query
from hub.plugin import Task, hookimpl

HUB_API = 1


@hookimpl
def settings_model() -> type[BaseModel]:
    return SqlSettings


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Query]
