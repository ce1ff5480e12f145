"""The page of hooks says what the hook specifications say, and each of its examples is a plugin that loads."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from structlog.testing import capture_logs

from hub.errors import InvalidSettings
from hub.plugin import hookspecs
from hub.registry import PluginReport, Registry
from hub.testing import Kit, harness
from plugins_core.memory.storage import MemoryStorage
from tests.support.installed import ROOT
from tests.support.plugins import load, point

PAGE = ROOT / "docs" / "hooks.md"
HOOKS = {name: one for name, one in vars(hookspecs).items() if hasattr(one, "hub_spec")}
SECTIONS = {part.partition("\n")[0]: part.partition("\n")[2] for part in PAGE.read_text().split("\n## ")[1:]}
_BLOCK = re.compile(r"```python\n(.*?)```", re.S)


def signature(name: str) -> str:
    """A hook as the page writes it: with its annotations as the specification has them."""
    hook = HOOKS[name]
    taken = [f"{one.name}: {one.annotation}" for one in inspect.signature(hook).parameters.values()]
    return f"{name}({', '.join(taken)}) -> {hook.__annotations__['return']}\n"


def test_the_page_has_every_hook_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(HOOKS)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_a_hook_stands_there_with_its_signature(name: str) -> None:
    assert _BLOCK.findall(SECTIONS[name])[0] == signature(name)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_a_hook_is_described_in_the_words_of_its_specification(name: str) -> None:
    first = inspect.cleandoc(HOOKS[name].__doc__ or "").split("\n")[0].replace("``", "`").rstrip(".")
    said = " ".join(_BLOCK.sub("", SECTIONS[name]).split())
    assert first in said, f"{name}: {first}"


def brought_by(name: str) -> tuple[Registry, PluginReport]:
    """What the example of a hook brings to a hub."""
    [_, source] = _BLOCK.findall(SECTIONS[name])
    module = ModuleType(f"asynchub_acme_{name}")
    sys.modules[module.__name__] = module
    # what `hub plugins new acme --with storage` writes
    storage = ModuleType("asynchub_acme.storage.storage")
    storage.AcmeStorage = AcmeStorage  # type: ignore[attr-defined]
    sys.modules[storage.__name__] = storage
    exec(compile(source, f"{PAGE.name}, {name}", "exec"), module.__dict__)
    registry, reports = load(point("acme", "asynchub-acme", module=module.__name__))
    return registry, reports["acme/asynchub-acme"]


class AcmeStorage(MemoryStorage):
    type = "acme"
    schemes = ("acme",)


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_the_example_of_a_hook_is_a_plugin_that_loads_and_brings_it(name: str) -> None:
    registry, report = brought_by(name)
    assert (report.state, report.error) == ("loaded", None)
    attribute = {
        "settings_model": "settings",
        "register_expression_functions": "functions",
    }.get(name, name.removeprefix("register_"))
    brought = getattr(registry, attribute)
    names = [getattr(one, "type", one) for one in brought] if isinstance(brought, tuple) else list(brought)
    assert any(str(one).startswith("acme") for one in names), (attribute, names)


# each hook, in a hub


def flow(task: str) -> str:
    return f"id: f\nnamespace: t\ntasks: [{{id: a, {task}}}]\n"


async def run(folder: Path, registry: Registry, task: str, **more: Any) -> tuple[str, Any]:
    async with harness(folder, registry=registry, with_triggers=False, **more) as hub:
        await hub.put(flow(task))
        ended = await hub.run("t/f")
        return ended.state.value, (await hub.task_runs(ended.id))["a"].outputs


async def test_hook_register_tasks(tmp_path: Path) -> None:
    registry, _ = brought_by("register_tasks")
    assert await run(tmp_path, registry, "type: acme.double, number: 21") == ("SUCCESS", {"value": 42})


async def test_hook_register_triggers(hub_kit: Kit) -> None:
    registry, _ = brought_by("register_triggers")
    async with hub_kit.trigger(registry.triggers["acme.counter"], step=2, every="PT1S") as running:
        assert (await running.next()).data == {"number": 2}


async def test_hook_register_listeners(tmp_path: Path) -> None:
    registry, _ = brought_by("register_listeners")
    with capture_logs() as said:
        async with harness(tmp_path, registry=registry) as hub:
            await hub.put(flow("type: execution.fail"))
            await hub.run("t/f")
            hub.node.drain_grace = 3.0
    assert [one["count"] for one in said if one["event"] == "another one failed"] == [1]


async def test_hook_register_secret_sources(tmp_path: Path) -> None:
    registry, _ = brought_by("register_secret_sources")
    [kind] = [one for one in registry.secret_sources if one.type == "acme"]
    kind.get = lambda self, name: _answer("x" if name == "NAME" else None)  # type: ignore[method-assign]
    said = await run(tmp_path, registry, "type: log, message: \"{{ secret('NAME') }}\"")
    assert said[0] == "SUCCESS"


async def _answer(value: Any) -> Any:
    return value


async def test_hook_register_file_stores(tmp_path: Path) -> None:
    registry, _ = brought_by("register_file_stores")
    large = "x" * 200_000
    async with harness(tmp_path, registry=registry, settings={"files": {"store": "acme"}}) as hub:
        await hub.put(flow(f"type: return, value: {large}"))
        ended = await hub.run("t/f")
        stored = (await hub.task_runs(ended.id))["a"].outputs
        assert "acme:///" in str(stored)
        assert await hub.node.services.payloads.unpack(stored or {}) == {"value": large}


async def test_hook_register_storages(tmp_path: Path) -> None:
    registry, _ = brought_by("register_storages")
    assert (await run(tmp_path, registry, "type: log, message: x", storage="acme:"))[0] == "SUCCESS"


async def test_hook_register_expression_functions(tmp_path: Path) -> None:
    registry, _ = brought_by("register_expression_functions")
    task = "type: return, value: \"{{ acme_short('abcdef', 3) }}\""
    assert await run(tmp_path, registry, task) == ("SUCCESS", {"value": "abc"})


async def test_hook_settings_model(tmp_path: Path) -> None:
    registry, _ = brought_by("settings_model")
    async with harness(tmp_path, registry=registry, plugins={"acme": {"apiUrl": "http://x"}}) as hub:
        assert hub.node.services.registry.values["acme"].api_url == "http://x"  # type: ignore[attr-defined]
    with pytest.raises(InvalidSettings, match="apiUrk"):
        async with harness(tmp_path, registry=registry, plugins={"acme": {"apiUrk": "http://x"}}):
            pass


async def test_hook_register_cleaners(tmp_path: Path) -> None:
    asked: list[str] = []

    async def clean(instance: str) -> int:
        asked.append(instance)
        return 1

    registry, _ = load(point("acme", "asynchub-acme", {"register_cleaners": [clean]}))
    async with harness(tmp_path, registry=registry) as hub:
        assert asked == [hub.node.services.instance]


async def test_hook_register_checks() -> None:
    registry, _ = brought_by("register_checks")

    async def secret(name: str) -> str:
        return name

    [check] = registry.checks["acme"]
    assert [(one.check, one.state) async for one in check(None, secret)] == [("service", "ok")]


def test_every_hook_has_a_test_of_its_name() -> None:
    told = "\n".join(path.read_text() for path in Path(ROOT / "tests").rglob("*.py"))
    missing = [name for name in HOOKS if f"def test_hook_{name}(" not in told]
    assert not missing
