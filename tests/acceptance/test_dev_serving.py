"""``hub serve --dev --plugin PATH``: what an author saves is used at once, and nothing that runs is lost by it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hub.errors import InvalidInput
from hub.registry import read_project
from tests.support.hub_process import HubProcess, hub_command

_PROJECT = """[project]
name = "asynchub-acme"
version = "0.1.0"
dependencies = ["asynchub"]

[project.entry-points."hub.plugins"]
acme = "asynchub_acme.plugin"
"""
_PLUGIN = '''from asynchub_acme.words import WORD
from hub.plugin import hookimpl, task


@task("acme.word")
def word() -> str:
    """Say the word."""
    return WORD


@hookimpl
def register_tasks():
    return [word]
'''
_FLOWS = {
    "word": "id: word\nnamespace: demo\ntasks: [{id: say, type: acme.word}]\noutputs: [{id: w, value: '{{ outputs.say.value }}'}]\n",
    "slow": "id: slow\nnamespace: demo\ntasks: [{id: sleep, type: script.shell, script: 'echo begun >> $OUT; sleep 4', env: {OUT: __OUT__}}]\n",
}


def project_in(folder: Path) -> Path:
    project = folder / "asynchub-acme"
    (project / "asynchub_acme").mkdir(parents=True)
    (project / "pyproject.toml").write_text(_PROJECT)
    (project / "asynchub_acme" / "__init__.py").write_text("")
    (project / "asynchub_acme" / "plugin.py").write_text(_PLUGIN)
    (project / "asynchub_acme" / "words.py").write_text("WORD = 'one'\n")
    return project


def until(is_so: Callable[[], Any], *, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def test_saved_means_used_and_a_broken_file_keeps_the_last_good_one(tmp_path: Path) -> None:
    project = project_in(tmp_path)
    words = project / "asynchub_acme" / "words.py"
    (tmp_path / "flows").mkdir()
    for name, source in _FLOWS.items():
        text = source.replace("__OUT__", str(tmp_path / "slept"))
        (tmp_path / "flows" / f"{name}.hub.yaml").write_text(text)
    dev = ["--dev", "--plugin", str(project)]
    with HubProcess(tmp_path, flows=tmp_path / "flows", arguments=dev) as hub:

        def word() -> str:
            started = hub.call("POST", "/api/v1/flows/demo/word/executions", {}).json
            return str(hub.ended(started["id"])["outputs"]["w"])

        assert word() == "one"
        slow = hub.call("POST", "/api/v1/flows/demo/slow/executions", {}).json
        words.write_text("WORD = 'two'\n")
        until(lambda: word() == "two")
        assert hub.ended(slow["id"])["state"] == "SUCCESS"
        assert (tmp_path / "slept").read_text() == "begun\n", "what ran was begun again"

        words.write_text("WORD = \n")
        until(lambda: "invalid syntax" in hub.log.read_text())
        assert word() == "two"
        words.write_text("WORD = 'three'\n")
        until(lambda: word() == "three")
        assert hub.stop() == 0


def test_what_is_no_plugins_project_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"pyproject\.toml cannot be read: No such file"):
        read_project(tmp_path)
    for text, message in (
        ("[project]\nname = 'x'\n", "names no plugin"),
        ("[project\n", "pyproject.toml: Expected"),
    ):
        (tmp_path / "pyproject.toml").write_text(text)
        with pytest.raises(InvalidInput, match=message):
            read_project(tmp_path)
    assert hub_command("serve", "--dev", cwd=tmp_path).returncode == 2
