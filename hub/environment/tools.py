"""The tool that an environment was made with: whatever else changes it is undone or overlooked by that one.

pipx and ``uv tool`` remember what they were asked for, so they are asked; an environment of uv's has no pip.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from hub.environment.changes import HUB, Changes, name_of, normal
from hub.errors import Conflict, InvalidInput

_LONGEST = 900.0
"""Seconds that a tool may take; it may have to build what it installs."""
_THERE = ("Requirement already satisfied:", "Looking in links:", "Looking in indexes:")
_LINE = re.compile(r"^\s*([+\-~])\s+([A-Za-z0-9._-]+)(?:==| @ )(\S+)", re.M)
_WHEEL = re.compile(r"/[^/-]+-([^/-]+)(?:-[^/-]+){3,4}\.whl$")


@dataclass(frozen=True)
class Tool:
    """What installs into this environment."""

    name: str
    """``pip``, ``uv``, ``pipx`` or ``uv tool``."""
    program: tuple[str, ...]
    """How it is called."""

    def plan(
        self, requirements: Sequence[str], *, upgrade: bool = False, keeping: Path | None = None
    ) -> Changes:
        """What installing these would change, with the constraints of a file. Raises ``Conflict`` with the tool's words."""
        kept = ["--constraint", str(keeping)] if keeping is not None else []
        if self.name in ("pip", "pipx"):
            more = ["--upgrade"] if upgrade else []
            # pipx cannot say what it would do; the pip that it lends to its environments can
            command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--report", "-"]
            report = json.loads(_run([*command, *kept, *more, *requirements]).stdout)
            return Changes.of(
                {one["metadata"]["name"]: one["metadata"]["version"] for one in report["install"]}
            )
        command = [*self._uv_pip("install"), "--dry-run", *kept, *self._upgraded(requirements, upgrade)]
        return Changes.of(_lines(_run([*command, *requirements]).stderr))

    def install(
        self, requirements: Sequence[str], *, upgrade: bool = False, keeping: Path | None = None
    ) -> None:
        """Install these, as planned. Raises ``Conflict`` where the tool fails."""
        kept = ["--constraint", str(keeping)] if keeping is not None else []
        if self.name == "pipx":
            more = ["--force"] if upgrade else []
            # pipx writes what it is told on its command line into its memory, and keeps to it for ever
            limits = {"PIP_CONSTRAINT": str(keeping), "UV_CONSTRAINT": str(keeping)} if keeping else {}
            command = [*self.program, "inject", *more, Path(sys.prefix).name, *requirements]
            _run(command, shows=True, also=limits)
        elif self.name == "uv tool":
            # it would write constraints into its receipt and keep to them for ever; what is there it leaves as it is
            command = [*self._uv_pip("install"), *kept, *self._upgraded(requirements, upgrade)]
            _run([*command, *requirements], shows=True)
            self._uv_tool(lambda known: _added(known, requirements))
        elif self.name == "uv":
            command = [*self._uv_pip("install"), *kept, *self._upgraded(requirements, upgrade)]
            _run([*command, *requirements], shows=True)
        else:
            more = ["--upgrade"] if upgrade else []
            _run_pip([*self.program, "install", *kept, *more, *requirements])

    def uninstall(self, names: Sequence[str]) -> None:
        """Take these out again. Raises ``Conflict`` where the tool fails."""
        if self.name == "pipx":
            # it would take what they depended on along, which somebody may have come to use
            _run([*self.program, "uninject", "--leave-deps", Path(sys.prefix).name, *names], shows=True)
        elif self.name == "uv tool":
            gone = {normal(name) for name in names}
            self._uv_tool(lambda known: [one for one in known if name_of(one) not in gone])
        elif self.name == "uv":
            _run([*self._uv_pip("uninstall"), *names], shows=True)
        else:
            _run([*self.program, "uninstall", "--yes", *names], shows=True)

    def _uv_pip(self, command: str) -> list[str]:
        return [self.program[0], "pip", command, "--python", sys.executable]

    @staticmethod
    def _upgraded(requirements: Sequence[str], upgrade: bool) -> list[str]:
        # uv's plain --upgrade is for everything that is installed
        names = [name for name in map(name_of, requirements) if upgrade and name]
        return [word for name in names for word in ("--upgrade-package", name)]

    def _uv_tool(self, changed: Callable[[list[str]], list[str]]) -> None:
        """Install the tool anew with other packages beside it: those of its receipt, changed."""
        hub, beside = read_receipt(Path(sys.prefix) / "uv-receipt.toml")
        _run([*self.program, "install", hub, *(f"--with={one}" for one in changed(beside))], shows=True)


def find_tool() -> Tool:
    """The tool of this environment. Raises ``InvalidInput`` where there is none."""
    prefix = Path(sys.prefix)
    has_pip = importlib.util.find_spec("pip") is not None
    uv = _find_uv()
    if (prefix / "pipx_metadata.json").is_file():
        return Tool("pipx", (_needed("pipx"),))
    if (prefix / "uv-receipt.toml").is_file():
        return Tool("uv tool", (uv or _needed("uv"), "tool"))
    if uv is not None and (_is_of_uv(prefix) or not has_pip):
        return Tool("uv", (uv,))
    if has_pip:
        return Tool("pip", (sys.executable, "-m", "pip"))
    raise InvalidInput(
        f"nothing installs into {prefix}: it has no pip, and there is no uv",
        hint=f"install uv, or run: {sys.executable} -m ensurepip",
    )


def read_receipt(path: Path) -> tuple[str, list[str]]:
    """What a tool of uv's was made of: the hub's own requirement, and the others."""
    receipt = tomllib.loads(path.read_text(encoding="utf-8"))
    found = [_spelled(one) for one in receipt["tool"]["requirements"]]
    [hub] = [one for one in found if name_of(one) == HUB] or [HUB]
    return hub, [one for one in found if name_of(one) != HUB]


def _added(known: Sequence[str], requirements: Sequence[str]) -> list[str]:
    """Requirements with others, which replace those of the same names."""
    names = {name_of(one) for one in requirements}
    return [*(one for one in known if name_of(one) not in names), *requirements]


def _spelled(requirement: Mapping[str, Any]) -> str:
    extras = f"[{','.join(requirement['extras'])}]" if requirement.get("extras") else ""
    name = f"{requirement['name']}{extras}"
    for place in ("path", "directory", "editable"):
        if place in requirement:
            return f"{name} @ {Path(requirement[place]).absolute().as_uri()}"
    if "url" in requirement:
        return f"{name} @ {requirement['url']}"
    if "git" in requirement:
        return f"{name} @ git+{requirement['git']}"
    return f"{name}{requirement.get('specifier', '')}"


def _is_of_uv(prefix: Path) -> bool:
    try:
        return any(line.startswith("uv =") for line in (prefix / "pyvenv.cfg").read_text().splitlines())
    except OSError:
        return False


def _find_uv() -> str | None:
    given = os.environ.get("UV")
    if given and shutil.which(given):
        return given
    usual = os.pathsep.join(str(Path.home() / folder) for folder in (".local/bin", ".cargo/bin"))
    return shutil.which("uv") or shutil.which("uv", path=usual)


def _needed(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise InvalidInput(
            f"this environment was made by {name}, which is not on the PATH",
            hint=f"put {name} on the PATH: what another tool installs here, {name} would not know of",
        )
    return found


def _lines(said: str) -> dict[str, str | None]:
    """The versions after what uv says it would do."""
    found: dict[str, str | None] = {}
    for sign, name, version in _LINE.findall(said):
        if sign == "-":
            found.setdefault(name, None)
        else:
            # of what has an address only a wheel's name says its version
            wheel = _WHEEL.search(version)
            found[name] = unquote(wheel[1]) if wheel else version
    return found


def _run_pip(command: Sequence[str]) -> None:
    """Run pip and say what it says, but for a line on each package that is there already. Raises ``Conflict``."""
    with subprocess.Popen(  # noqa: S603 - the environment's own tool
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    ) as process:
        assert process.stdout is not None
        late = threading.Timer(_LONGEST, process.kill)
        late.start()
        try:
            for line in process.stdout:
                if not line.startswith(_THERE):
                    print(line, end="", file=sys.stderr, flush=True)
        finally:
            late.cancel()
    if process.returncode:
        raise Conflict(f"{Path(command[0]).name} ended with exit code {process.returncode}")


def _run(
    command: Iterable[str], *, shows: bool = False, also: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a tool; what it says goes to stderr where it is to be shown. Raises ``Conflict``."""
    words = list(command)
    try:
        done = subprocess.run(  # noqa: S603 - the environment's own tool
            words,
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr if shows else subprocess.PIPE,
            stderr=None if shows else subprocess.PIPE,
            text=True,
            timeout=_LONGEST,
            check=False,
            env={**os.environ, "NO_COLOR": "1", **(also or {})},
        )
    except subprocess.TimeoutExpired:
        raise Conflict(f"{words[0]} took longer than {_LONGEST:g} s") from None
    if done.returncode:
        said = (done.stderr or "").strip()
        raise Conflict(
            f"{Path(words[0]).name} ended with exit code {done.returncode}" + (f":\n{said}" if said else "")
        )
    return done
