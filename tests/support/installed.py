"""The wheel in an environment of its own, with what it asks for and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent.parent


def build_wheel(folder: Path) -> Path:
    """The wheel of this checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def install(wheel: Path, folder: Path) -> Path:
    """A new environment with the wheel; answers its folder of commands.

    Its dependencies, and theirs, are linked from this environment, found by what the wheel declares: one that
    is not declared is not there. No index is asked.
    """
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    _uv_install(wheel, python)
    [site] = folder.glob("lib/python*/site-packages")
    [ours] = metadata.distributions(name="asynchub", path=[str(site)])
    for distribution in _closure(ours):
        _link(distribution, site)
    return folder / "bin"


def environment_to_install_into(folder: Path) -> Path:
    """A new environment with pip and all that the wheel asks for, but not the wheel; answers its folder of commands.

    ``pip install asynchub`` works in it without an index where ``PIP_FIND_LINKS`` names the wheel's folder.
    """
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    [site] = folder.glob("lib/python*/site-packages")
    for distribution in _closure(metadata.distribution("asynchub")):
        _link(distribution, site)
    return folder / "bin"


def environment_of(folder: Path, tool: str) -> tuple[Path, dict[str, str]]:
    """An environment with the wheel whose tool is ``uv`` or ``pip``; answers its commands, and variables that keep
    the tool from asking an index."""
    wheel = build_wheel(folder / "hub-dist")
    if tool == "uv":
        settings = folder / "uv.toml"
        settings.write_text("no-index = true\n")
        env = {"UV": _uv(), "UV_CONFIG_FILE": str(settings), "UV_OFFLINE": "1"}
        return install(wheel, folder / "venv"), env
    commands = environment_to_install_into(folder / "venv")
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    pip = [str(commands / "python"), "-m", "pip", "install", "--quiet", "--no-deps", str(wheel)]
    subprocess.run(pip, check=True, env={**os.environ, **env})
    return commands, env


def tool_environment_of(folder: Path, tool: str) -> tuple[Path, dict[str, str]]:
    """The hub as an application of ``pipx`` or ``uv tool``; answers its commands, and variables for both.

    The index is asked once, for what the hub and pipx need; from then on the tool finds a folder of wheels.
    """
    wheel = build_wheel(folder / "hub-dist")
    links = folder / "links"
    helper = folder / "helper"
    subprocess.run([sys.executable, "-m", "venv", str(helper)], check=True)
    wanted = [str(wheel), *(["pip", "pipx"] if tool == "pipx" else [])]
    pip = [str(helper / "bin" / "python"), "-m", "pip"]
    subprocess.run([*pip, "download", "--quiet", "--dest", str(links), *wanted], check=True)
    settings = folder / "uv.toml"
    settings.write_text("no-index = true\n")
    shown = str(folder / "shown")
    env = {"UV_CONFIG_FILE": str(settings), "UV_FIND_LINKS": str(links), "UV_OFFLINE": "1"}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(links)}
    if tool == "uv tool":
        env |= {"UV": _uv(), "UV_TOOL_DIR": str(folder / "tools"), "UV_TOOL_BIN_DIR": shown}
        command, commands = [_uv(), "tool", "install", "--python", sys.executable], folder / "tools"
    else:
        subprocess.run([*pip, "install", "--quiet", "pipx"], check=True, env={**os.environ, **env})
        env |= {
            "PIPX_HOME": str(folder / "tools"),
            "PIPX_BIN_DIR": shown,
            "PIPX_MAN_DIR": str(folder / "man"),
        }
        env |= {"PATH": f"{helper / 'bin'}:{os.environ['PATH']}"}
        command = [str(helper / "bin" / "pipx"), "install", "--python", sys.executable]
        commands = folder / "tools" / "venvs"
    subprocess.run([*command, str(wheel)], check=True, env={**os.environ, **env}, capture_output=True)
    return commands / "asynchub" / "bin", env


def install_as_source(project: Path, commands: Path) -> None:
    """The same, and let the environment use the project's own files, so that what is edited is what is run."""
    install_project(project, commands)
    [site] = commands.parent.glob("lib/python*/site-packages")
    package = project.name.replace("-", "_")
    shutil.rmtree(site / package)
    (site / f"{package}.pth").write_text(f"{project}\n")


def _uv() -> str:
    return shutil.which("uv") or str(ROOT / ".cache" / "uv" / "bin" / "uv")


def _uv_install(wheel: Path, python: Path) -> None:
    command = [_uv(), "pip", "install", "--offline", "--no-deps", "--python", str(python), str(wheel)]
    subprocess.run(command, check=True, capture_output=True)


def also(commands: Path, *names: str) -> None:
    """Link more distributions, and what they ask for, from this environment into that one."""
    [site] = commands.parent.glob("lib/python*/site-packages")
    there = {
        one.metadata["Name"].lower().replace("_", "-") for one in metadata.distributions(path=[str(site)])
    }
    for name in names:
        for distribution in (metadata.distribution(name), *_closure(metadata.distribution(name))):
            if distribution.metadata["Name"].lower().replace("_", "-") not in there:
                there.add(distribution.metadata["Name"].lower().replace("_", "-"))
                _link(distribution, site)


def install_project(project: Path, commands: Path) -> None:
    """Build a project's wheel and install it into an environment, with nothing else."""
    dist = project.parent / f"{project.name}-dist"
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    subprocess.run(command, cwd=project, check=True, capture_output=True)
    [wheel] = dist.glob("*.whl")
    _uv_install(wheel, commands / "python")


def _closure(root: metadata.Distribution) -> Iterator[metadata.Distribution]:
    todo, seen = [root], {"asynchub"}
    while todo:
        for text in todo.pop().requires or ():
            requirement = Requirement(text)
            name = requirement.name.lower().replace("_", "-")
            if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            seen.add(name)
            found = metadata.distribution(name)
            yield found
            todo.append(found)


def _link(distribution: metadata.Distribution, site: Path) -> None:
    for file in distribution.files or ():
        if ".." in file.parts or "__pycache__" in file.parts:
            continue  # commands of the dependencies
        target = site / file
        target.parent.mkdir(parents=True, exist_ok=True)
        source = distribution.locate_file(file)
        try:
            os.link(str(source), target)
        except OSError:
            shutil.copy2(str(source), target)
