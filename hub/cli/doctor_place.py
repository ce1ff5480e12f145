"""What the doctor looks at in a folder: data, storage, port, plugins, flows, secrets, the hub that serves it."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import json
import os
import shutil
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hub.app import ADDRESS_FILE, LOCK_FILE, Place
from hub.cli.findings import Finding, fail, ok, warn
from hub.cli.quick import get_json
from hub.clock import SystemClock
from hub.config import yaml
from hub.config.lint import SUFFIX, LintReport, lint_files
from hub.config.plugins import with_plugin_settings
from hub.config.secrets import secrets_named
from hub.errors import HubError, InvalidFlow, NotFound
from hub.expressions import builtin_functions
from hub.plugin.checks import Check
from hub.plugin.secrets import SecretSource
from hub.plugin.storage import StorageSettings
from hub.registry import PluginReport, Registry

_GIB = 1024**3
_LITTLE_DISK = _GIB
_NO_DISK = _GIB // 10
_SLOW_FLUSH = 0.020
_MOST_FLUSHES = 20
_FLUSHING = 0.5
"""Seconds that measuring the flush may take."""
_STORAGE_TIMEOUT = 10.0
_LONGEST_CHECK = 60.0
_FUTURE = 60.0
_SQLITE = "sqlite:///"
_SQLITE_MAGIC = b"SQLite format 3\0"
_NETWORK = ("nfs", "cifs", "smb", "fuse", "9p", "ceph", "gluster")
_MEMORY = ("tmpfs", "ramfs")
_SHORTEST_TOKEN = 16


@dataclass(frozen=True)
class FlowFiles:
    """The flow files of a place, checked."""

    report: LintReport
    data: dict[str, Any]
    """What each file that is YAML holds."""


def read_flows(place: Place, registry: Registry) -> FlowFiles:
    """Every flow file below the flow folders."""
    files = [
        file
        for folder in place.flow_folders
        if folder.is_dir()
        for file in sorted(folder.rglob(f"*{SUFFIX}"))
        if file.is_file()
    ]
    functions = builtin_functions(SystemClock().now).with_functions(registry.functions)
    report = lint_files(files, registry, functions)
    data = {}
    for file, source in report.sources.items():
        try:
            data[file] = yaml.parse(source).root.plain()
        except InvalidFlow:
            continue  # among the report's problems
    return FlowFiles(report, data)


def examine_data(place: Place) -> Iterator[Finding]:
    """The data folder: writable, with room, on a disk that flushes, its files not from the future."""
    folder = _existing(place.data_dir)
    if not os.access(folder, os.W_OK | os.X_OK):
        yield fail(
            "data folder", f"{folder} is not writable", "start with another --data folder, or as its owner"
        )
        return
    note = "" if folder == place.data_dir else ", which is made when the hub starts"
    yield ok("data folder", f"{place.data_dir}{note}")
    yield _disk(folder)
    yield _flushing(folder)
    newest = max((path.stat().st_mtime for path in folder.glob("hub.*") if path.is_file()), default=0.0)
    ahead = newest - SystemClock().now().timestamp()
    if ahead > _FUTURE:
        yield warn(
            "clock and data",
            f"files in {folder} are {ahead:.0f} s ahead of the clock",
            "the clock was put back: set it right before the hub starts",
        )


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.is_dir())


def _disk(folder: Path) -> Finding:
    usage = shutil.disk_usage(folder)
    found = f"{usage.free / _GIB:.1f} GiB free"
    if usage.free < _NO_DISK:
        return fail("disk", found, "make room: without it nothing is acknowledged")
    if usage.free < _LITTLE_DISK:
        return warn("disk", found, "make room soon: without it nothing is acknowledged")
    return ok("disk", found)


def _flushing(folder: Path) -> Finding:
    """How long a flush takes: every acknowledged event waits for one."""
    kind = _file_system(folder)
    try:
        median = _measure_flush(folder)
    except OSError as error:
        return fail(
            "flush", f"{folder} cannot be flushed: {error.strerror}", "use a data folder on a local disk"
        )
    found = f"{median * 1000:.2f} ms on {kind}"
    if kind in _MEMORY:
        return warn("flush", found, "this is memory: data goes with a restart; use a data folder on a disk")
    if kind.startswith(_NETWORK):
        return warn("flush", found, "SQLite needs a local disk: locks over a network do not hold")
    if kind == "overlay":
        return warn("flush", found, "this is a container's own layer and goes with it: mount a volume")
    if median > _SLOW_FLUSH:
        return warn("flush", found, "each acknowledgement waits for this: use a faster disk")
    return ok("flush", found)


def _measure_flush(folder: Path) -> float:
    """The median of some flushes, in seconds."""
    times: list[float] = []
    with tempfile.TemporaryFile(dir=folder) as file:
        until = time.perf_counter() + _FLUSHING
        while len(times) < _MOST_FLUSHES and (not times or time.perf_counter() < until):
            began = time.perf_counter()
            os.write(file.fileno(), b"\0" * 4096)
            os.fsync(file.fileno())
            times.append(time.perf_counter() - began)
    return statistics.median(times)


def _file_system(folder: Path) -> str:
    """The type of the file system a folder lies on."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "an unknown file system"
    found, length = "an unknown file system", 0
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if folder.resolve().is_relative_to(point) and len(point) >= length:
            found, length = kind, len(point)
    return found


def examine_storage(place: Place, registry: Registry) -> Finding:
    """Whether the storage opens. A database that exists is only looked at: opening it would bring it up to date."""
    url = place.storage_url
    shown = _without_password(url)
    scheme = url.split(":", 1)[0]
    if scheme not in registry.storages:
        return fail(
            "storage", f'nothing answers to "{scheme}:"', f"there are {', '.join(sorted(registry.storages))}"
        )
    if scheme == "memory":
        return warn("storage", "memory", "nothing survives a restart: use sqlite:///hub.db")
    try:
        if url.startswith(_SQLITE):
            return asyncio.run(_examine_sqlite(place, registry))
        if not registry.storages[scheme].single_process:
            return asyncio.run(_examine_shared(place, registry))
        asyncio.run(_open(registry, url, place.data_dir))
    except HubError as error:
        return fail("storage", f"{shown}: {error.message}", error.hint)
    except TimeoutError:
        return fail("storage", f"{shown} does not answer within {_STORAGE_TIMEOUT:.0f} s", "is it running?")
    except OSError as error:
        return fail(
            "storage", f"{shown}: {error.strerror or error}", "is it running, and is the address right?"
        )
    return ok("storage", f"{shown} opens")


async def _examine_shared(place: Place, registry: Registry) -> Finding:
    """Look at a storage that hubs may use now: opened with their data folder it would take over what they hold."""
    storage = registry.storages[place.storage_url.split(":", 1)[0]]
    own = with_plugin_settings(registry, place.settings).settings_of(storage)
    given = StorageSettings(place.storage_url, place.data_dir, SystemClock(), settings=own)
    async with asyncio.timeout(_STORAGE_TIMEOUT):
        schema = await storage.schema(given)
    shown = _without_password(place.storage_url)
    if schema.pending:
        return ok("storage", f"{shown} is brought up to date when a hub starts: {len(schema.pending)} steps")
    return ok("storage", f"{shown} is up to date")


async def _open(registry: Registry, url: str, data_dir: Path) -> None:
    storage = registry.storages[url.split(":", 1)[0]]
    async with asyncio.timeout(_STORAGE_TIMEOUT):
        async with storage.open(StorageSettings(url, data_dir, SystemClock())) as opened:
            await opened.counts()


async def _examine_sqlite(place: Place, registry: Registry) -> Finding:
    """Open a new database beside the one that is there, and compare the two by their headers."""
    path = Path(unquote(place.storage_url.removeprefix(_SQLITE)))
    folder = _existing(path.parent)
    with tempfile.TemporaryDirectory(prefix=".doctor-", dir=folder) as probe:
        fresh = Path(probe) / "probe.db"
        await _open(registry, f"{_SQLITE}{fresh}", Path(probe))
        newest = _schema_version(fresh)
    if not path.exists():
        return ok("storage", f"{path} is made when the hub starts")
    if not os.access(path, os.R_OK | os.W_OK):
        return fail("storage", f"{path} is not readable and writable", "start the hub as the file's owner")
    found = _schema_version(path)
    if found is None:
        return fail(
            "storage", f"{path} is no SQLite database", "move it away, or start with another --data folder"
        )
    if newest is not None and found > newest:
        return fail(
            "storage",
            f"{path} was written by a newer asynchub (schema {found}, this one knows {newest})",
            "upgrade asynchub, or start with another --data folder",
        )
    holder = _holder(place.data_dir)
    return ok("storage", f"{path}, {_size(path)}" + (f", held by {holder}" if holder else ""))


def _schema_version(path: Path) -> int | None:
    """The number of a database's newest migration, read from its header; None for what is no database."""
    with path.open("rb") as file:
        header = file.read(100)
    if not header:
        return 0
    if len(header) < 100 or not header.startswith(_SQLITE_MAGIC):
        return None
    return int.from_bytes(header[60:64], "big")


def _size(path: Path) -> str:
    size = path.stat().st_size / 1024**2
    return f"{size:.1f} MiB"


def _holder(data_dir: Path) -> str | None:
    """Who holds the data folder."""
    try:
        with (data_dir / LOCK_FILE).open(encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return file.read().strip() or "another process"
    except OSError:
        pass
    return None


def _without_password(url: str) -> str:
    from hub.config.effective import without_password

    return without_password(url)


def examine_port(place: Place, address: tuple[str, int] | None) -> Finding:
    """Whether the server's address is free, or held by this folder's own hub."""
    server = place.settings.server
    host, port = server.host, server.port
    where = f"{host}:{port}"
    if port == 0:
        return ok("port", "a free one is taken")
    if address is not None and address[0].endswith(f":{port}"):
        return ok("port", f"{where} is held by this folder's hub, process {address[1]}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                return fail(
                    "port",
                    f"{where} cannot be used: {error.strerror or error}",
                    "choose another --host or --port",
                )
            who = "another hub" if _is_hub(f"http://127.0.0.1:{port}") else "another program"
            return fail(
                "port",
                f"{where} is held by {who}",
                "end it, or choose another with --port N (0 takes a free one)",
            )
    return ok("port", f"{where} is free")


def _is_hub(url: str) -> bool:
    try:
        status, answer = get_json(url, "/health/live", timeout=1)
    except (OSError, ValueError):
        return False
    return status == 200 and answer == {"status": "live"}


def running_hub(data_dir: Path) -> tuple[str, int] | None:
    """The URL and the process of the hub that holds a data folder."""
    if _holder(data_dir) is None:
        return None
    try:
        found = json.loads((data_dir / ADDRESS_FILE).read_text(encoding="utf-8"))
        return str(found["url"]), int(found["pid"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def examine_server(server: str | None, address: tuple[str, int] | None, token: str | None) -> Finding:
    """Whether the hub answers: one that was named must, one of this folder need not run."""
    url = server or (address[0] if address else None)
    if url is None:
        return ok("server", "none runs on this data folder")
    try:
        status, answer = get_json(url, "/health/ready", timeout=5)
        allowed, _ = get_json(url, "/api/v1/plugins", token=token, timeout=5)
    except (OSError, ValueError) as error:
        return fail(
            "server", f"{url} does not answer: {error}", "start it with: hub serve, and look at its log"
        )
    if status != 200:
        state = answer.get("status") if isinstance(answer, dict) else status
        return warn("server", f"{url} is not ready: {state}", "it takes no events until it is")
    if allowed in (401, 403):
        return warn("server", f"{url} is ready and refuses the token", "set HUB_TOKEN to the server's token")
    return ok("server", f"{url} is ready")


def examine_access(place: Place) -> Iterator[Finding]:
    """Who may reach the hub and its secrets."""
    from hub.api.application import is_loopback

    server = place.settings.server
    token = server.token.get_secret_value() if server.token else None
    if token is None and not is_loopback(server.host):
        yield fail(
            "access", f"{server.host} is reachable from other machines and no token is set", "set HUB_TOKEN"
        )
    elif token is not None and len(token) < _SHORTEST_TOKEN:
        yield warn(
            "access", f"the token has {len(token)} characters", "use a longer one: openssl rand -hex 24"
        )
    else:
        yield ok("access", "by token" if token else "from this machine only")
    file = place.folder / "secrets.env"
    if file.is_file() and file.stat().st_mode & 0o077:
        yield warn("secrets.env", "others on this machine may read it", f"chmod 600 {file}")


def examine_plugins(registry: Registry) -> Iterator[Finding]:
    """Every plugin that did not load, else how many did."""
    loaded = [report for report in registry.plugins if not report.error]
    yield ok("plugins", f"{len(loaded)} loaded")
    for report in registry.plugins:
        if report.error:
            yield warn(f"plugin {report.name}", report.error, "flows that use its types cannot be saved")


def examine_plugin(
    report: PluginReport, registry: Registry, settings: Any, flows: FlowFiles
) -> Iterator[Finding]:
    """One plugin: how it loaded, its settings, and the flows that use it."""
    from pydantic import ValidationError

    check = f"plugin {report.name}"
    if report.error:
        yield fail(check, report.error, "hub plugins list shows what each plugin brings")
    else:
        yield ok(check, f"{report.distribution} {report.version}: {', '.join(report.types) or 'no types'}")
    model = registry.settings.get(report.name)
    given = {name: value for name, value in (settings or {}).items() if name != "enabled"}
    try:
        if model is not None:
            model.model_validate(given)
            yield ok("settings", f"plugins.{report.name} is valid")
        elif given:
            yield warn(
                "settings", f"plugins.{report.name} is set, and the plugin has no settings", "take it out"
            )
    except ValidationError as error:
        one = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(step) for step in ("plugins", report.name, *one["loc"]))
        yield fail("settings", f"{where}: {one['msg']}", "hub config show --origin names the place")
    using = [file for file, data in flows.data.items() if _types_in(data) & set(report.types)]
    yield ok("used by", ", ".join(map(_short, using)) or "no flow here")


def examine_with_plugin(name: str, place: Place, registry: Registry) -> Iterator[Finding]:
    """What the plugin itself looks at, the services that it talks to for one."""
    model = registry.settings.get(name)
    given = {
        key: value for key, value in (place.settings.plugins.get(name) or {}).items() if key != "enabled"
    }
    try:
        settings = model.model_validate(given) if model is not None else None
    except ValueError:
        return  # said already
    sources = [source(place.environ, place.folder) for source in registry.secret_sources]
    for check in registry.checks.get(name, ()):
        try:
            yield from asyncio.run(_examined(check, settings, sources))
        except Exception as error:
            # a plugin's failure is a finding, not the doctor's end
            yield fail(f"plugin {name}", f"its own check fails: {error or type(error).__name__}", None)


async def _examined(check: Check, settings: Any, sources: Sequence[SecretSource]) -> list[Finding]:
    async def secret(name: str) -> str:
        for source in sources:
            if (value := await source.get(name)) is not None:
                return value
        raise NotFound(f"no secret {name}", hint=f"a line {name}=… in secrets.env, or HUB_SECRET_{name}")

    async with asyncio.timeout(_LONGEST_CHECK):
        return [Finding(one.check, one.state, one.found, one.hint) async for one in check(settings, secret)]


def _types_in(data: Any) -> set[str]:
    found: set[str] = set()
    if isinstance(data, dict):
        if isinstance(data.get("type"), str):
            found.add(data["type"])
        for value in data.values():
            found |= _types_in(value)
    elif isinstance(data, list):
        for value in data:
            found |= _types_in(value)
    return found


def examine_flows(place: Place, flows: FlowFiles) -> Iterator[Finding]:
    """Whether every flow file can be saved."""
    missing = [folder for folder in place.flow_folders if not folder.is_dir()]
    for folder in missing:
        yield warn(
            "flows",
            f"the folder {_short(folder)} does not exist",
            f"mkdir {_short(folder)}, or set flows: in hub.yaml",
        )
    report = flows.report
    if report.errors:
        first = next(problem for problem in report.problems if problem.severity == "error")
        more = f" (and {report.errors - 1} more)" if report.errors > 1 else ""
        where = f"{_short(first.file or '')}:{first.position.line}:{first.position.column}"
        yield fail("flows", f"{where}  {first.message}{more}", "hub validate shows each with its place")
    elif report.files:
        yield ok("flows", f"{len(report.files)} valid")
    elif not missing:
        yield warn("flows", "there is no flow yet", "hub blueprints list shows ready ones to copy")


def examine_secrets(place: Place, registry: Registry, flows: FlowFiles) -> Iterator[Finding]:
    """Whether every secret that a flow names is there; its value is never shown."""
    named: dict[str, list[str]] = {}
    for file, data in flows.data.items():
        for name in secrets_named(data):
            named.setdefault(name, []).append(_short(file))
    sources = [source(place.environ, place.folder) for source in registry.secret_sources]
    missing = 0
    for name, files in sorted(named.items()):
        try:
            if asyncio.run(_has_secret(sources, name)):
                continue
            found, hint = (
                f"not set; named by {', '.join(files)}",
                f"a line {name}=… in secrets.env, or HUB_SECRET_{name}",
            )
        except HubError as error:
            found, hint = error.message, error.hint or "mend it, then look again"
        missing += 1
        yield fail(f"secret {name}", found, hint)
    if not missing:
        yield ok("secrets", f"set: {', '.join(sorted(named))}" if named else "flows name none")


async def _has_secret(sources: Sequence[SecretSource], name: str) -> bool:
    async with asyncio.timeout(_STORAGE_TIMEOUT):
        for source in sources:
            if await source.get(name) is not None:
                return True
    return False


def _short(path: Path | str) -> str:
    """A path as people say it: from here, where it is below here."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except ValueError:
        return str(path)
