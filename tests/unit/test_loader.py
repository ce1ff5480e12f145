"""Plugins: one that is broken is named, and the rest loads."""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest

from hub.plugin import Task, hookimpl
from hub.plugin.hookspecs import GROUP
from hub.registry import PluginReport, Registry, load_plugins


class _Dist:
    """A distribution as entry points carry it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = "1.0"
        self.requires = ['aiothing>=1; extra == "thing"']
        self.metadata = self

    def get_all(self, name: str) -> list[str]:
        return ["thing"] if name == "Provides-Extra" else []


def a_task(name: str) -> type[Task]:
    return type(
        "Made", (Task,), {"type": name, "__annotations__": {"type": ClassVar[str]}, "__doc__": "A task."}
    )


def point(
    name: str, dist: str, hooks: dict[str, Any] | None = None, *, module: str | None = None
) -> EntryPoint:
    target = module or f"made_{name}_{dist}".replace("-", "_")
    if module is None:
        made = ModuleType(target)
        for hook, answer in (hooks or {}).items():
            function = eval(f"lambda: answer", {"answer": answer})  # noqa: F541
            function.__name__ = hook
            setattr(made, hook, hookimpl(function))
        sys.modules[target] = made
    found = EntryPoint(name, target, GROUP)
    vars(found).update(dist=_Dist(dist))
    return found


def load(*points: EntryPoint) -> tuple[Registry, dict[str, PluginReport]]:
    built_in = [one for one in entry_points(group=GROUP) if one.dist and one.dist.name == "asynchub"]
    registry = load_plugins({}, [*built_in, *points])
    return registry, {f"{one.name}/{one.distribution}": one for one in registry.plugins}


def test_a_plugin_brings_its_types() -> None:
    registry, reports = load(point("acme", "asynchub-acme", {"register_tasks": [a_task("acme.do")]}))
    assert "acme.do" in registry.tasks
    assert reports["acme/asynchub-acme"].state == "loaded"
    assert "log" in registry.tasks


def test_a_broken_plugin_is_named_and_the_rest_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_broken.py").write_text("raise RuntimeError('no good')")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, reports = load(point("bad", "asynchub-bad", module="made_broken"))
    report = reports["bad/asynchub-bad"]
    assert (report.state, report.error) == ("failed", 'plugin "bad" cannot be loaded: RuntimeError: no good')
    assert "log" in registry.tasks


def test_a_missing_extra_says_how_to_install_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "made_thing.py").write_text("import aiothing")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry, reports = load(point("thing", "asynchub-thing", module="made_thing"))
    error = reports["thing/asynchub-thing"].error
    assert error == (
        'plugin "thing" is not available: aiothing is not installed.'
        " Install it with: pip install 'asynchub-thing[thing]'"
    )
    assert registry.explain("task", "thing.publish") == error


def test_of_two_claims_to_a_type_the_built_in_wins() -> None:
    registry, reports = load(point("log", "asynchub-log", {"register_tasks": [a_task("log")]}))
    assert registry.tasks["log"].__module__ == "plugins_core.core.tasks"
    report = reports["log/asynchub-log"]
    assert "the built-in" in (report.error or "")
    assert report.types == ()


def test_of_two_strangers_with_one_name_neither_loads() -> None:
    registry, reports = load(
        point("acme", "asynchub-one", {"register_tasks": [a_task("acme.do")]}),
        point("acme", "asynchub-two", {"register_tasks": [a_task("acme.do")]}),
    )
    assert "acme.do" not in registry.tasks
    for name in ("acme/asynchub-one", "acme/asynchub-two"):
        assert "asynchub-one" in (reports[name].error or "")
        assert "asynchub-two" in (reports[name].error or "")


def test_a_misspelled_hook_is_found() -> None:
    _, reports = load(point("acme", "asynchub-acme", {"register_task": []}))
    assert 'unknown hook "register_task" (did you mean "register_tasks"?)' in (
        reports["acme/asynchub-acme"].error or ""
    )


def test_a_type_must_begin_with_its_plugins_name() -> None:
    _, reports = load(point("acme", "asynchub-acme", {"register_tasks": [a_task("other.do")]}))
    assert "must begin with the plugin's name: \"acme" in (reports["acme/asynchub-acme"].error or "")
