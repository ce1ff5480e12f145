"""``hub plugins check``: a good plugin passes, and each thing that may be wrong with one is named."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hub.scaffold.plugin import plugin_name, write_plugin
from hub.testing.check import check_project
from tests.support.hub_process import hub_command

_PROJECT = """[project]
name = "asynchub-acme"
version = "0.1.0"

[project.entry-points."hub.plugins"]
acme = "asynchub_acme"
"""
_GOOD = '''import asyncio
import time
from typing import ClassVar

from pydantic import BaseModel, Field

from hub.plugin import Task, TaskContext, hookimpl

HUB_API = 1


class Tell(Task):
    """Tell the time."""

    type: ClassVar[str] = "acme.tell"
    examples: ClassVar[tuple[str, ...]] = ("id: tell\\ntype: acme.tell\\nzone: UTC",)

    zone: str = Field("UTC", description="The zone.")

    async def run(self, ctx: TaskContext) -> dict[str, str]:
        await asyncio.sleep(0)
        return {"zone": self.zone}


@hookimpl
def register_tasks():
    return [Tell]
'''
_TESTS = """import pytest
from asynchub_acme import Tell
from hub.testing import TaskContract


class TestTell(TaskContract):
    task = Tell

    @pytest.fixture
    def fields(self):
        return {"zone": "UTC"}


def test_of_something_else():
    raise AssertionError("no test but those of contracts is run")
"""


def project(folder: Path, source: str = _GOOD, *, tests: str | None = None) -> Path:
    """A project, found on the path as if it was installed."""
    made = folder / "asynchub-acme"
    made.mkdir()
    (made / "pyproject.toml").write_text(_PROJECT)
    (made / "asynchub_acme.py").write_text(source)
    if tests is not None:
        (made / "tests").mkdir()
        (made / "tests" / "test_acme.py").write_text(tests)
        (made / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n")
        metadata = made / "asynchub_acme-0.1.0.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: asynchub-acme\nVersion: 0.1.0\n")
        (metadata / "entry_points.txt").write_text("[hub.plugins]\nacme = asynchub_acme\n")
    return made


def checked(folder: Path) -> tuple[int, list[dict[str, Any]]]:
    env = {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    done = hub_command("plugins", "check", str(folder), "-o", "json", cwd=folder, env=env)
    return done.returncode, json.loads(done.stdout)


def errors(findings: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(one["check"], one["message"]) for one in findings if one["level"] == "error"]


@pytest.mark.faults
def test_a_good_plugin_passes_with_its_contract(tmp_path: Path) -> None:
    code, findings = checked(project(tmp_path, tests=_TESTS))
    assert errors(findings) == []
    assert code == 0
    said = {one["check"]: one["message"] for one in findings if one["level"] == "ok"}
    assert set(said) == {"loads", "names", "described", "examples", "blocking", "contracts"}
    assert said["contracts"].startswith("acme.tell keeps its contract (")


@pytest.mark.faults
def test_a_contract_that_is_broken_is_named_with_the_call_that_blocks(tmp_path: Path) -> None:
    broken = _GOOD.replace("await asyncio.sleep(0)", "time.sleep(1)")
    code, findings = checked(project(tmp_path, broken, tests=_TESTS))
    assert code == 1
    found = dict(errors(findings))
    assert found["blocking"].startswith('asynchub_acme.py:21: time.sleep(…) in "async def run"')
    assert "acme.tell: " in found["contracts"]
    assert "it blocks the loop" in found["contracts"]


@pytest.mark.parametrize(
    ("said", "instead", "check", "message"),
    [
        ('"""Tell the time."""', "...", "described", "acme.tell has no docstring"),
        pytest.param(
            ', description="The zone."',
            "",
            "described",
            'the field "zone" has no description',
            marks=pytest.mark.faults,
        ),
        ("zone: UTC", "zonne: UTC", "examples", "zonne"),
        pytest.param(
            "acme.tell", "other.tell", "loads", "must begin with the plugin's name", marks=pytest.mark.faults
        ),
        pytest.param("HUB_API = 1", "raise SystemExit(3)", "loads", "SystemExit", marks=pytest.mark.faults),
        ("HUB_API = 1", "import os; os._exit(3)", "loads", "exit code 3"),
        ("HUB_API = 1", "time.sleep(60)", "loads", "not loaded after 5 s"),
        pytest.param("HUB_API = 1", "time.sleep(0.7)", "", "", marks=pytest.mark.faults),
    ],
    ids=lambda value: None,
)
def test_what_is_wrong_is_named(tmp_path: Path, said: str, instead: str, check: str, message: str) -> None:
    found = check_project(project(tmp_path, _GOOD.replace(said, instead)), patience=5)
    wrong = [one for one in found if one.level == "error"]
    if not check:
        assert wrong == []
        warned = [one.message for one in found if one.level == "warning"]
        assert any("import what is large where it is used" in one for one in warned)
        return
    assert [one.check for one in wrong] == [check]
    assert message in wrong[0].message


def test_the_template_passes_as_it_stands(tmp_path: Path) -> None:
    written = write_plugin(tmp_path, plugin_name("matrix"), parts=["task", "trigger", "function", "notifier"])
    assert [one for one in check_project(written) if one.level == "error"] == []


def test_what_is_neither_a_folder_nor_installed_is_refused(tmp_path: Path) -> None:
    done = hub_command("plugins", "check", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (4, "")
    assert "neither a folder nor an installed plugin" in done.stderr
