"""The composition root: settings, plugins, storage, engine and HTTP, put together and taken apart in order."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import json
import os
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import structlog

from hub import __version__
from hub.bus import Bus
from hub.clock import Clock, SystemClock
from hub.config.settings import Settings
from hub.engine.node import Node
from hub.engine.payloads import Payloads
from hub.engine.places import Places
from hub.engine.retention import RetentionRule
from hub.engine.secrets import SecretVault
from hub.engine.services import Services
from hub.engine.timer import WallTimer
from hub.errors import InvalidSettings, PluginError, StorageLocked
from hub.expressions import builtin_functions
from hub.model.ids import new_id
from hub.plugin.storage import Storage, StorageSettings
from hub.registry import Registry, load_plugins

log = structlog.get_logger("hub")

ADDRESS_FILE = "hub.address"
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
            return f"sqlite:///{self.data_dir / 'hub.db'}"
        if url.startswith("sqlite:///") and not url.startswith("sqlite:////"):
            return f"sqlite:///{self.folder / url.removeprefix('sqlite:///')}"
        return url

    @property
    def flow_folders(self) -> list[Path]:
        return [self.folder / folder for folder in self.settings.flows]


@contextlib.contextmanager
def locked(data_dir: Path) -> Any:
    """Hold the data folder for this process. Raises ``StorageLocked`` naming who holds it."""
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle: IO[str] = open(data_dir / LOCK_FILE, "a+", encoding="utf-8")
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.seek(0)
            holder = handle.read().strip() or "another process"
            raise StorageLocked(
                f"{data_dir} is held by {holder}", hint="stop it, or start with another --data folder"
            ) from None
        handle.seek(0)
        handle.truncate()
        handle.write(f"process {os.getpid()}")
        handle.flush()
        yield
    finally:
        handle.close()


@asynccontextmanager
async def open_node(
    place: Place,
    *,
    registry: Registry | None = None,
    clock: Clock | None = None,
    folders: Sequence[Path] = (),
) -> AsyncIterator[Node]:
    """A node over its storage, not yet running. Raises ``StorageLocked``, ``InvalidSettings``, ``PluginError``."""
    clock = clock or SystemClock()
    registry = registry or load_plugins(place.settings.plugins)
    async with AsyncExitStack() as stack:
        url = place.storage_url
        storage_class = _storage_class(registry, url)
        stack.enter_context(locked(place.data_dir))
        storage = await stack.enter_async_context(
            storage_class.open(StorageSettings(url, place.data_dir, clock))
        )
        work_dir = place.data_dir / "work"
        # what a killed hub left behind belongs to attempts that are over
        shutil.rmtree(work_dir, ignore_errors=True)
        work_dir.mkdir(mode=0o700)
        vault = SecretVault([source(place.environ, place.folder) for source in registry.secret_sources])
        file_store = registry.file_stores["local"](place.data_dir)
        functions = builtin_functions(clock.now).with_functions(registry.functions)
        services = Services(
            storage=storage,
            bus=Bus(),
            clock=clock,
            vault=vault,
            payloads=Payloads(file_store),
            registry=registry,
            functions=functions,
            work_dir=work_dir,
            instance=_instance(place.data_dir),
            timer=WallTimer(clock),
            places=Places(
                place.folder,
                place.settings.files.roots,
                data_dir=place.data_dir,
                flow_folders=place.flow_folders,
                database=Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None,
            ),
        )
        await _end_leftovers(registry, services.instance)
        yield Node(
            services,
            folders=folders,
            most_executions=place.settings.limits.max_concurrent_executions,
            retention=_retention(place.settings),
        )


async def serve(
    place: Place,
    *,
    say: Callable[[str], None],
    on_ended: Callable[[Mapping[str, Any]], None] | None = None,
    started_at: float | None = None,
    on_ready: Callable[[str], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or Ctrl-C.

    ``say`` gets the ready line, ``on_ended`` each execution's end, ``on_ready`` the address once it is up.
    """
    from hub.api import start_api

    began = started_at if started_at is not None else time.monotonic()
    stop = asyncio.Event()
    failure: list[BaseException] = []

    def fail(error: BaseException) -> None:
        failure.append(error)
        stop.set()

    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(open_node(place, folders=place.flow_folders))
        # the API is up, and not ready, while flows load and executions are taken over
        api = await stack.enter_async_context(start_api(node, place.settings))
        _catch_signals(stop, node)
        async with node.running(on_failure=fail):
            address = _write_address(place, api.local_url)
            stack.callback(address.unlink, missing_ok=True)
            _settle_memory()
            say(_ready_line(node, api.url, time.monotonic() - began))
            if on_ended is not None:
                watcher = asyncio.create_task(_report_ends(node, on_ended))
                stack.callback(watcher.cancel)
            if on_ready is not None:
                shower = asyncio.ensure_future(on_ready(api.local_url))
                shower.add_done_callback(lambda job: _pass_on(job, fail))
                stack.callback(shower.cancel)
            await stop.wait()
            node.is_ready = False
    if failure:
        raise failure[0]


def _settle_memory() -> None:
    """What is there at the start stays: leave it out of every later collection.

    Collections of the young are made rarer too; together they cut the longest answers to a quarter.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


def _pass_on(job: asyncio.Future[None], fail: Callable[[BaseException], None]) -> None:
    if not job.cancelled() and (error := job.exception()) is not None:
        fail(error)


def _catch_signals(stop: asyncio.Event, node: Node) -> None:
    loop = asyncio.get_running_loop()

    def stopping() -> None:
        if stop.is_set():
            # the second signal: hand back at once
            node.drain_grace = 0.0
            for execution in node.dispatcher.executors():
                execution.hand_back()
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)


async def _report_ends(node: Node, on_ended: Callable[[Mapping[str, Any]], None]) -> None:
    with node.services.bus.subscribe("execution", size=10_000) as news:
        async for one in news:
            if "seconds" in one.details:
                on_ended({"id": one.id, **one.details})


def _ready_line(node: Node, url: str, seconds: float) -> str:
    plugins = sum(plugin.state == "loaded" for plugin in node.services.registry.plugins)
    flows = len(node.catalog.records())
    broken = len(node.catalog.broken)
    return (
        f"asynchub {__version__} ready at {url} in {seconds:.2f} s"
        f" · {flows} flow{'s' if flows != 1 else ''}"
        + (f" ({broken} file{'s' if broken != 1 else ''} with errors)" if broken else "")
        + f" · {plugins} plugins"
    )


def _write_address(place: Place, url: str) -> Path:
    path = place.data_dir / ADDRESS_FILE
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")
    temporary.replace(path)
    return path


def _retention(settings: Settings) -> list[RetentionRule]:
    given = settings.retention
    return [
        RetentionRule(given.executions, given.events),
        *(RetentionRule(one.executions, one.events, one.namespace, one.flow) for one in given.rules),
    ]


def _storage_class(registry: Registry, url: str) -> type[Storage]:
    scheme = url.split(":", 1)[0]
    found = registry.storages.get(scheme)
    if found is None:
        known = ", ".join(sorted(registry.storages))
        raise InvalidSettings(f'no storage answers to "{scheme}:"; there are {known}')
    return found


def _instance(data_dir: Path) -> str:
    """This installation's own name, the same over restarts."""
    path = data_dir / _INSTANCE_FILE
    if not path.exists():
        path.write_text(new_id(), encoding="utf-8")
    return path.read_text(encoding="utf-8").strip()


async def _end_leftovers(registry: Registry, instance: str) -> None:
    """End the process trees that a killed hub left behind, before anything new is started."""
    for cleaner in registry.cleaners:
        ended = await cleaner(instance)
        if ended:
            log.warning("ended processes that a killed hub had left behind", count=ended)


__all__ = ["ADDRESS_FILE", "LOCK_FILE", "Place", "PluginError", "locked", "open_node", "serve"]
