"""What the doctor looks at on any machine: Python, platform, libraries, command, clock, file notification."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import shutil
import sqlite3
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from hub.cli.findings import Finding, fail, ok, warn
from hub.clock import SystemClock

_OLDEST_PYTHON = (3, 11)
_OLDEST_SQLITE = (3, 35, 0)
_BEFORE_THIS_CODE = datetime(2025, 1, 1, tzinfo=UTC)
_UNSYNCHRONIZED = 5
"""What adjtimex answers when nothing keeps the clock in step (TIME_ERROR)."""
_MANY_WATCHES = 0.5


def examine_machine() -> Iterator[Finding]:
    """Everything that does not depend on a folder."""
    yield _python()
    yield _platform()
    yield _yaml()
    yield _sqlite()
    yield _distribution()
    yield _command()
    yield from _clock()


def _python() -> Finding:
    found = f"{platform.python_implementation()} {platform.python_version()}, {sys.executable}"
    if sys.version_info < _OLDEST_PYTHON:
        return fail("python", found, "use Python 3.11 or newer")
    return ok("python", found)


def _platform() -> Finding:
    found = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if sys.platform == "linux":
        return ok("platform", found)
    if sys.platform == "darwin":
        return warn(
            "platform",
            found,
            "good for development: a script's process tree is followed less closely than on Linux",
        )
    return fail("platform", found, "use Linux, or WSL on Windows")


def _yaml() -> Finding:
    import yaml

    if not getattr(yaml, "__with_libyaml__", False):
        return fail(
            "yaml", f"PyYAML {yaml.__version__} without its C parser", "pip install --force-reinstall pyyaml"
        )
    return ok("yaml", f"PyYAML {yaml.__version__} with its C parser")


def _sqlite() -> Finding:
    if sqlite3.sqlite_version_info < _OLDEST_SQLITE:
        wanted = ".".join(map(str, _OLDEST_SQLITE))
        return fail("sqlite", sqlite3.sqlite_version, f"use a Python with SQLite {wanted} or newer")
    return ok("sqlite", sqlite3.sqlite_version)


def _distribution() -> Finding:
    """Another distribution is called ``hub``; both write into one package folder."""
    try:
        other = metadata.version("hub")
    except metadata.PackageNotFoundError:
        from hub import __version__

        return ok("package", f"asynchub {__version__}")
    return fail(
        "package",
        f'another package named "hub" ({other}) is installed into the same folder',
        "pip uninstall hub, then pip install --force-reinstall asynchub",
    )


def _command() -> Finding:
    called = shutil.which("hub")
    if called is None:
        return ok("command", "no `hub` on the PATH; called by its own path")
    ours = {Path(sysconfig.get_path("scripts")).resolve(), Path(sys.executable).parent.resolve()}
    if Path(called).resolve().parent in ours:
        return ok("command", called)
    return warn("command", f"`hub` on the PATH is another one: {called}", "call this one as: asynchub")


def _clock() -> Iterator[Finding]:
    now = SystemClock().now()
    found = now.isoformat(timespec="seconds")
    if now < _BEFORE_THIS_CODE:
        yield fail("clock", f"it says {found}", "set the machine's clock: schedules and ids depend on it")
    elif _is_unsynchronized():
        yield warn("clock", f"{found}, kept in step by nothing", "run an NTP client, such as chrony")
    else:
        yield ok("clock", found)
    try:
        ZoneInfo("Europe/Paris")
    except (ZoneInfoNotFoundError, OSError, ValueError):
        yield fail("time zones", "the time zone database is missing", "pip install tzdata")
    else:
        yield ok("time zones", "found")


def _is_unsynchronized() -> bool:
    """What the kernel knows about NTP; False where it does not say."""
    if sys.platform != "linux":
        return False
    try:
        # asks only: the structure's first field, what to set, is 0
        answer: int = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return False
    return answer == _UNSYNCHRONIZED


def examine_notification(folders: list[Path]) -> Finding:
    """Whether changed flow files can be noticed: the kernel has few watchers to give."""
    check = "file watching"
    if sys.platform != "linux":
        return ok(check, "by the system")
    limits = Path("/proc/sys/fs/inotify")
    try:
        instances = int((limits / "max_user_instances").read_text())
        watches = int((limits / "max_user_watches").read_text())
    except (OSError, ValueError):
        instances = watches = 0
    refusal = _inotify_refusal()
    found = f"{instances} inotify instances and {watches} watches per user"
    if refusal is not None:
        what = "none is free" if refusal == errno.EMFILE else os.strerror(refusal)
        return fail(
            check, f"{found}; {what}", f"sysctl fs.inotify.max_user_instances={max(instances * 4, 512)}"
        )
    below = sum(1 for folder in folders for _ in os.walk(folder))
    if watches and below > watches * _MANY_WATCHES:
        return warn(
            check,
            f"{found}; the flow folders need {below}",
            f"sysctl fs.inotify.max_user_watches={watches * 4}",
        )
    return ok(check, found)


def _inotify_refusal() -> int | None:
    """The error number with which the kernel refuses one more watcher."""
    try:
        library = ctypes.CDLL(None, use_errno=True)
        handle: int = library.inotify_init1(0)
    except (OSError, AttributeError):
        return None
    if handle < 0:
        return ctypes.get_errno()
    os.close(handle)
    return None
