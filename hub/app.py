"""The composition root: settings, plugins, storage and engine, put together and taken apart in order.

``prepare`` is what needs no data folder: a process that is to take over a running hub does it first. ``open_node``
needs the folder for itself. Serving them is ``hub.serving``'s business.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO
from urllib.parse import quote

import structlog

from hub.bus import Bus
from hub.clock import Clock, HubClock, SystemClock
from hub.config.notifiers import NotifierDeclaration, read_notifiers, read_notify
from hub.config.plugins import with_plugin_settings
from hub.config.settings import Settings
from hub.engine.node import Node
from hub.engine.payloads import Payloads
from hub.engine.places import Places
from hub.engine.retention import RetentionRule
from hub.engine.secrets import SecretVault
from hub.engine.services import Services
from hub.engine.sharing import share_files
from hub.engine.timer import WallTimer
from hub.errors import HubError, InvalidSettings, PluginError, StorageError, StorageLocked
from hub.expressions import FunctionTable, builtin_functions
from hub.model.flow import NotifyRule
from hub.model.ids import new_id
from hub.plugin.file_store import FileStore
from hub.plugin.portable import Schema
from hub.plugin.storage import Storage, StorageSettings
from hub.plugin.trees import remove_tree
from hub.registry import (
    Registry,
    load_plugins,
    make_file_store,
    make_listeners,
    make_secret_sources,
    run_cleaners,
)

log = structlog.get_logger("hub")

ADDRESS_FILE = "hub.address"
"""Where commands on this machine find the hub that serves a data folder; ``hub.serving`` writes it."""
LOCK_FILE = "hub.lock"
_INSTANCE_FILE = "hub.instance"


@dataclass(frozen=True)
class Place:
    """Where a hub lives: its settings, their folder and its data."""

    settings: Settings
    folder: Path
    """The folder of ``hub.yaml``, else the current one; relative paths start here."""
    data_dir: Path
    environ: Mapping[str, str]

    @property
    def storage_url(self) -> str:
        """The settings' storage, by default a database in the data folder."""
        url = self.settings.storage
        if url is None:
            return f"sqlite:///{quote(str(self.data_dir / 'hub.db'))}"
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            return f"sqlite:///{quote(str(self.folder))}/{url.removeprefix('sqlite:///')}"
        return url

    @property
    def flow_folders(self) -> list[Path]:
        return [self.folder / folder for folder in self.settings.flows]


@contextlib.contextmanager
def locked(data_dir: Path) -> Iterator[IO[str]]:
    """Hold the data folder for this process, and for whom the open file is handed to.

    Raises ``StorageLocked`` naming who holds it.
    """
    with usable(data_dir):
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle: IO[str] = open(data_dir / LOCK_FILE, "a+", encoding="utf-8", opener=_private)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise StorageLocked(
                f"{data_dir} is held by {holder}", hint="stop it, or start with another --data folder"
            ) from None
        sign(handle)
        yield handle
    finally:
        handle.close()


def sign(lock: IO[str]) -> None:
    """Write into a lock that this process holds who that is."""
    lock.seek(0)
    lock.truncate()
    lock.write(f"process {os.getpid()}")
    lock.flush()


@contextlib.contextmanager
def usable(data_dir: Path) -> Iterator[None]:
    """Say what is wrong with a data folder that cannot be used. Raises ``InvalidSettings``."""
    try:
        yield
    except OSError as error:
        raise InvalidSettings(
            f"the data folder {data_dir} cannot be used: {error.strerror}",
            hint="choose another with --data DIR, or make it one that this user may write to",
        ) from error


@dataclass(frozen=True)
class Prepared:
    """All of a node that needs no data folder: its plugins, checked against the settings."""

    registry: Registry
    functions: FunctionTable
    notifiers: Mapping[str, NotifierDeclaration]
    notify: Sequence[NotifyRule]
    storage: type[Storage]
    file_store: str
    clock: HubClock
    follows: bool
    """Whether the clock goes by the storage's, where that has one."""


def prepare(place: Place, *, registry: Registry | None = None, clock: Clock | None = None) -> Prepared:
    """Load the plugins and check the settings. Raises ``InvalidSettings``, ``PluginError``."""
    given_clock, clock = clock, HubClock(clock or SystemClock())
    registry = with_plugin_settings(registry or load_plugins(place.settings.plugins), place.settings)
    functions = builtin_functions(clock.now).with_functions(registry.functions)
    notifiers = read_notifiers(place.settings, registry, functions)
    notify = read_notify(place.settings, notifiers, functions)
    storage = _storage_class(registry, place.settings, place.storage_url)
    return Prepared(
        # after the rules are read: what names a notifier is checked against these from now on
        registry=registry.with_notifier_names(notifiers),
        functions=functions,
        notifiers=notifiers,
        notify=notify,
        storage=storage,
        file_store=_file_store_type(registry, place.settings, storage),
        clock=clock,
        follows=given_clock is None,
    )


@asynccontextmanager
async def open_node(
    place: Place,
    *,
    registry: Registry | None = None,
    clock: Clock | None = None,
    folders: Sequence[Path] = (),
    task_folders: Sequence[Path] = (),
    prepared: Prepared | None = None,
    is_locked: bool = False,
) -> AsyncIterator[Node]:
    """A node over its storage, not yet running; a ``tasks.py`` in ``task_folders`` brings tasks of its own.

    What is ``prepared`` is taken as it is, and a data folder that the caller has locked is not locked again. Raises
    ``StorageLocked``, ``InvalidSettings``, ``PluginError``.
    """
    if prepared is None:
        prepared = prepare(place, registry=registry, clock=clock)
    registry, clock = prepared.registry, prepared.clock
    async with AsyncExitStack() as stack:
        url = place.storage_url
        own = registry.settings_of(prepared.storage)
        if not is_locked:
            stack.enter_context(locked(place.data_dir))
        where = StorageSettings(url, place.data_dir, clock, settings=own)
        storage = await _opened(stack, prepared.storage, where)
        if prepared.follows and storage.clock is not None:
            prepared.clock.follow(storage.clock)
        with usable(place.data_dir):
            instance = _instance(place.data_dir)
        ended = await run_cleaners(registry, instance)
        if ended:
            log.warning("ended processes that a killed hub had left behind", count=ended)
        with usable(place.data_dir):
            # after the processes that work in it: they would go on filling it
            work_dir = _fresh_work_dir(place.data_dir)
        sources, registry = make_secret_sources(registry, place.environ, place.folder)
        listeners, registry = make_listeners(registry)
        vault = SecretVault(sources)
        file_store = make_file_store(registry, prepared.file_store, place.data_dir)
        stack.push_async_callback(file_store.close)
        file_store.use_storage(storage)
        await share_files(storage, file_store, instance)
        services = Services(
            storage=storage,
            bus=Bus(),
            clock=clock,
            vault=vault,
            payloads=Payloads(file_store),
            registry=registry,
            functions=prepared.functions,
            work_dir=work_dir,
            instance=instance,
            timer=WallTimer(clock),
            places=Places(
                place.folder,
                place.settings.files.roots,
                data_dir=place.data_dir,
                flow_folders=place.flow_folders,
                database=Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None,
            ),
        )
        yield Node(
            services,
            folders=folders,
            task_folders=task_folders,
            most_executions=place.settings.limits.max_concurrent_executions,
            retention=_retention(place.settings),
            listeners=listeners,
            notifiers=prepared.notifiers,
            notify=prepared.notify,
            hub_url=_hub_url(place.settings),
        )


def storage_type(place: Place) -> str:
    """The plugin that keeps a place's storage. Raises ``InvalidSettings``."""
    return _storage_class(load_plugins(place.settings.plugins), place.settings, place.storage_url).type


async def schema_of(place: Place) -> Schema:
    """How the tables of a place's storage stand, changing nothing. Raises ``InvalidSettings``."""
    registry = with_plugin_settings(load_plugins(place.settings.plugins), place.settings)
    storage_class = _storage_class(registry, place.settings, place.storage_url)
    own = registry.settings_of(storage_class)
    try:
        return await storage_class.schema(
            StorageSettings(place.storage_url, place.data_dir, SystemClock(), settings=own)
        )
    except StorageError as error:
        raise _not_opened(place.storage_url, error) from error


@asynccontextmanager
async def opened_storage(
    place: Place, *, beside: Place | None = None
) -> AsyncIterator[tuple[Storage, FileStore]]:
    """A place's storage and files, without a hub; ``beside`` is a place that is open already.

    A data folder is locked only for a storage that one process holds: others are opened as one more node, which
    takes over nothing.
    """
    registry = with_plugin_settings(load_plugins(place.settings.plugins), place.settings)
    url = place.storage_url
    storage_class = _storage_class(registry, place.settings, url)
    async with AsyncExitStack() as stack:
        node_dir = place.data_dir
        if not storage_class.single_process:
            node_dir = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hub-db-")))
        elif beside is None or beside.data_dir != place.data_dir:
            stack.enter_context(locked(place.data_dir))
        own = registry.settings_of(storage_class)
        storage = await _opened(
            stack, storage_class, StorageSettings(url, node_dir, SystemClock(), settings=own)
        )
        data_dir = place.data_dir if storage_class.single_process else node_dir
        store_type = _file_store_type(registry, place.settings, storage_class)
        files = make_file_store(registry, store_type, data_dir if store_type != "local" else place.data_dir)
        stack.push_async_callback(files.close)
        files.use_storage(storage)
        yield storage, files


async def _opened(stack: AsyncExitStack, storage_class: type[Storage], settings: StorageSettings) -> Storage:
    try:
        return await stack.enter_async_context(storage_class.open(settings))
    except Exception as error:
        if isinstance(error, HubError) and type(error) is not StorageError:
            raise
        raise _not_opened(settings.url, error) from error


def _not_opened(url: str, error: Exception) -> InvalidSettings:
    """A driver's own words, behind the name of what it was asked to open."""
    hint = getattr(error, "hint", None) or "see --storage, HUB_STORAGE and storage: in hub.yaml"
    return InvalidSettings(f"the storage {shown_url(url)} cannot be opened: {error}", hint=hint)


def shown_url(url: str) -> str:
    """A storage's URL without its password."""
    return re.sub(r"(://[^/@:]*):[^/@]*@", r"\1:***@", url)


def _hub_url(settings: Settings) -> str:
    """What links in notices begin with."""
    server = settings.server
    return server.public_url or f"http://{server.host}:{server.port}"


def _retention(settings: Settings) -> list[RetentionRule]:
    given = settings.retention
    return [
        RetentionRule(given.executions, given.events),
        *(RetentionRule(one.executions, one.events, one.namespace, one.flow) for one in given.rules),
    ]


def _private(path: str, flags: int) -> int:
    """Open a file that nobody else may read, an older one included."""
    handle = os.open(path, flags | os.O_CLOEXEC, 0o600)
    with contextlib.suppress(PermissionError):
        os.fchmod(handle, 0o600)
    return handle


def write_private(path: Path, text: str) -> None:
    """Write a file of the data folder that nobody else may read."""
    with open(path, "w", encoding="utf-8", opener=_private) as file:
        file.write(text)


def _storage_class(registry: Registry, settings: Settings, url: str) -> type[Storage]:
    scheme = url.split(":", 1)[0]
    found = registry.storages.get(scheme)
    if found is None:
        known = ", ".join(sorted(registry.storages))
        raise settings.mistake(
            ("storage",), f'no storage answers to "{scheme}:"; there are {known}', _not_loaded(registry)
        )
    return found


def _file_store_type(registry: Registry, settings: Settings, storage: type[Storage]) -> str:
    wanted = settings.files.store or storage.file_store
    if wanted not in registry.file_stores:
        known = ", ".join(sorted(registry.file_stores)) or "none"
        raise settings.mistake(
            ("files", "store"),
            f'no file store is called "{wanted}"; there are {known}',
            _not_loaded(registry),
        )
    return wanted


def _not_loaded(registry: Registry) -> str | None:
    """Why some plugins are not there, for a message about something that is missing."""
    return "; ".join(one.error for one in registry.plugins if one.error and one.state != "partly") or None


def _fresh_work_dir(data_dir: Path) -> Path:
    """An empty folder for working folders: what a killed hub left in it belongs to attempts that are over."""
    work_dir = data_dir / "work"
    try:
        if work_dir.is_symlink() or work_dir.is_file():
            work_dir.unlink()
        elif work_dir.exists():
            remove_tree(work_dir)
    except OSError as error:
        log.warning(
            "something of what a killed hub left behind stays", folder=str(work_dir), error=str(error)
        )
    work_dir.mkdir(mode=0o700, exist_ok=True)
    return work_dir


def _instance(data_dir: Path) -> str:
    """This installation's own name, the same over restarts."""
    path = data_dir / _INSTANCE_FILE
    if not path.exists():
        write_private(path, new_id())
    with open(path, encoding="utf-8", opener=_private) as file:
        return file.read().strip()


__all__ = [
    "ADDRESS_FILE",
    "LOCK_FILE",
    "Place",
    "PluginError",
    "Prepared",
    "locked",
    "open_node",
    "prepare",
    "sign",
    "write_private",
]
