"""A new plugin's tests pass at once: out of the installed wheel, with nothing else but pytest and pytest-asyncio."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.hub_process import hub_command
from tests.support.installed import ROOT, also, build_wheel, install, install_project


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The commands of an environment with the wheel, what it asks for, and what plugins are tested with."""
    folder = tmp_path_factory.mktemp("installed")
    commands = install(build_wheel(folder / "dist"), folder / "venv")
    also(commands, "pytest", "pytest-asyncio")
    return commands


def run(*command: str | Path, cwd: Path) -> str:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PYTHON"))
    }
    done = subprocess.run(
        [str(one) for one in command],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-5000:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.mark.timeout(500)
@pytest.mark.parametrize(
    ("name", "arguments", "brought"),
    [
        ("my-tool", [], "my-tool.messages"),
        ("vault2", ["--with", "storage,secret-source"], "vault2:"),
        ("pager", ["--with", "notifier"], "pager.tell"),
    ],
)
def test_a_new_plugins_tests_pass_at_once(
    commands: Path, tmp_path: Path, name: str, arguments: list[str], brought: str
) -> None:
    said = run(commands / "hub", "plugins", "new", name, *arguments, cwd=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"asynchub-{name}"]
    python = commands / "python"
    assert said.splitlines()[0] == f"cd asynchub-{name}"
    assert all(str(python) in line for line in said.splitlines()[1:])
    project = tmp_path / f"asynchub-{name}"
    install_project(project, commands)
    told = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)
    assert " passed" in told
    assert "failed" not in told
    listed = run(commands / "hub", "plugins", "list", "-o", "jsonl", cwd=tmp_path)
    assert brought in listed


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["class"], 3, "a word of Python"),
        (["http"], 3, 'a plugin "http" is there already'),
        (["matrix", "--with", "tsk"], 3, 'did you mean "task"?'),
        (["taken"], 7, "is there already"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    tmp_path: Path, arguments: list[str], code: int, message: str
) -> None:
    (tmp_path / "asynchub-taken").mkdir()
    done = hub_command("plugins", "new", *arguments, cwd=tmp_path)
    assert done.returncode == code
    assert message in done.stderr
    assert done.stdout == ""
    assert [path.name for path in tmp_path.iterdir()] == ["asynchub-taken"]


@pytest.mark.timeout(500)
def test_the_template_is_a_project_that_passes_as_it_stands(commands: Path, tmp_path: Path) -> None:
    project = tmp_path / "plugin-template"
    shutil.copytree(ROOT / "plugin-template", project, ignore=shutil.ignore_patterns("__pycache__"))
    install_project(project, commands)
    assert " passed" in run(commands / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=project)


def test_the_wheel_holds_the_template_and_none_of_its_leavings(commands: Path) -> None:
    [template] = commands.parent.glob("lib/python*/site-packages/hub/_plugin_template")
    inside = {path.relative_to(template).as_posix() for path in template.rglob("*") if path.is_file()}
    ours = {
        path.relative_to(ROOT / "plugin-template").as_posix()
        for path in (ROOT / "plugin-template").rglob("*")
        if path.is_file() and not {"__pycache__", ".pytest_cache"} & set(path.parts)
    }
    assert {path for path in inside if "__pycache__" not in path} == ours
    assert sys.version_info >= (3, 11)
