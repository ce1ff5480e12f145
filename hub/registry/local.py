"""A plain ``tasks.py``: every function in it that ``@task`` stands above is a task ``local.NAME``.

It is a program with the hub's own rights, so only files in folders that were named on the command line are
ever loaded. Each text is tried in a process of its own first: one that raises, hangs or ends its process must
not do so here.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import linecache
import sys
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hub.errors import PluginError, TooLarge
from hub.plugin.functions import FunctionTask, renamed
from hub.plugin.task import Task
from hub.registry.collecting import check_task
from hub.registry.registry import PluginReport, Registry

FILE_NAME = "tasks.py"
PREFIX = "local."
_LARGEST = 1024 * 1024
_LONGEST_TRIAL = 10.0
"""Seconds that a file may take to be loaded."""
_IN_A_PROCESS = "import sys; from hub.registry.local import main; main(sys.argv[1])"


def read_source(path: Path) -> str:
    """The text of a file. Raises ``PluginError``, ``TooLarge`` and ``OSError``."""
    with path.open("rb") as file:
        raw = file.read(_LARGEST + 1)
    if len(raw) > _LARGEST:
        raise TooLarge(f"{path} is larger than 1 MiB")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise PluginError(f"{path} is not UTF-8: {error.reason}") from error


_good: dict[Path, str] = {}
"""The text of each file that was tried last and passed: it need not be tried again while requests wait."""


async def try_all(folders: Iterable[Path]) -> None:
    """Try the file of each folder that has one. Raises ``PluginError``, ``TooLarge``."""
    for path in (folder.resolve() / FILE_NAME for folder in folders):
        if path.is_file():
            await tried(path, await asyncio.to_thread(read_source, path))


async def tried(path: Path, source: str) -> None:
    """Load a text in a process of its own and forget it again. Raises ``PluginError`` for what went wrong."""
    if _good.get(path) == source:
        return
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # nothing in the current folder takes the place of the hub's own modules
        "-c",
        _IN_A_PROCESS,
        str(path),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_LONGEST_TRIAL):
            _, said = await process.communicate(source.encode())
    except TimeoutError:
        raise PluginError(f"{path} takes longer than {_LONGEST_TRIAL:g} s to load") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    last = said.decode(errors="replace").strip().rpartition("\n")[2]
    try:
        found = json.loads(last)["error"]
    except (ValueError, KeyError, TypeError):
        raise PluginError(f"{path} ends its process when it is loaded: {last or 'without a word'}") from None
    if found is not None:
        raise PluginError(found)
    _good[path] = source


def with_local_tasks(registry: Registry, folders: Iterable[Path], *, strict: bool = True) -> Registry:
    """The registry with the tasks of these folders, for a command.

    Raises ``PluginError`` with file and line; where it is not ``strict`` that is in the file's report instead.
    """
    found: dict[str, type[Task]] = {}
    reports = []
    for path in (folder.resolve() / FILE_NAME for folder in folders):
        if not path.is_file():
            continue
        try:
            tasks = load_source(path, read_source(path))
        except (PluginError, TooLarge) as error:
            if strict:
                raise
            reports.append(PluginReport(str(path), None, None, (), "failed", error.message))
        else:
            found.update(tasks)
            reports.append(PluginReport(str(path), None, None, tuple(sorted(tasks))))
    return registry.with_local(found, reports)


def main(path: str) -> None:
    """Load the text on stdin, and say on stderr what is wrong with it: what runs in the process of a trial."""
    error: str | None = None
    try:
        load_source(Path(path), sys.stdin.buffer.read().decode())
    except PluginError as found:
        error = found.message
    sys.stderr.write("\n" + json.dumps({"error": error}) + "\n")


def load_source(path: Path, source: str) -> Mapping[str, type[Task]]:
    """The tasks of a text, by type. Raises ``PluginError`` with file and line."""
    name = f"hub_local_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    before = sys.modules.get(name)
    # dataclasses and typing look their module up by its name
    sys.modules[name] = module
    linecache.checkcache(str(path))
    try:
        # the very text that was tried, not the file, which may be another one by now
        exec(compile(source, str(path), "exec"), module.__dict__)  # noqa: S102 - it is the user's own program
        return _tasks_of(module, path)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit() too is the file's own fault
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
        if isinstance(error, PluginError):
            raise
        raise PluginError(_spelled(path, error)) from error


def _tasks_of(module: ModuleType, path: Path) -> Mapping[str, type[Task]]:
    found: dict[str, type[Task]] = {}
    for value in list(vars(module).values()):
        component: Any = getattr(value, "component", None)
        is_made_here = isinstance(component, type) and issubclass(component, FunctionTask)
        if not is_made_here or component.__module__ != module.__name__:
            continue  # one that it imported is somebody else's
        type_name = component.type if component.type.startswith(PREFIX) else f"{PREFIX}{component.type}"
        line = component.function.__code__.co_firstlineno
        if "." in type_name.removeprefix(PREFIX):
            raise PluginError(f'{path}:{line}: tasks of a {FILE_NAME} are local.NAME, not "{component.type}"')
        if type_name in found and found[type_name].function is not component.function:  # type: ignore[attr-defined]
            raise PluginError(f'{path}:{line}: "{type_name}" is there twice')
        made = renamed(component, type_name)
        try:
            check_task(made)
        except PluginError as error:
            raise PluginError(f"{path}:{line}: {error.message}") from error
        found[type_name] = made
    return found


def _spelled(path: Path, error: BaseException) -> str:
    """An error with the line of the file that it came from."""
    text = f"{type(error).__name__}: {error}".removesuffix(": ")
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f"{path}:{error.lineno}: {type(error).__name__}: {error.msg}"
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    return f"{path}:{lines[-1]}: {text}" if lines else f"{path}: {text}"
