"""The hooks of the built-in plugin ``postgres``."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from pydantic import BaseModel

from hub.plugin import FileStore, Storage, hookimpl
from plugins_core.postgres.file_store import PostgresFileStore
from plugins_core.postgres.settings import PostgresSettings
from plugins_core.postgres.storage import PostgresStorage

if find_spec("asyncpg") is None:
    # asked for now, imported when a database is opened: no other start waits for it
    raise ModuleNotFoundError("No module named 'asyncpg'", name="asyncpg")


@hookimpl
def register_storages() -> Iterable[type[Storage]]:
    return [PostgresStorage]


@hookimpl
def register_file_stores() -> Iterable[type[FileStore]]:
    return [PostgresFileStore]


@hookimpl
def settings_model() -> type[BaseModel]:
    return PostgresSettings
