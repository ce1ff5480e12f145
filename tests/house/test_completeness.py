"""Nothing that users or authors meet lacks a description, an example or a test."""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import json
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import hub.plugin
import hub.testing
from hub.config.settings import Settings
from hub.plugin import Listener, SecretSource
from hub.registry import load_plugins
from tests.support.hub_process import hub_command
from tests.support.installed import ROOT

REGISTRY = load_plugins({})
COMPONENTS = [
    one
    for kind in (REGISTRY.tasks, REGISTRY.triggers, REGISTRY.notifiers)
    for one in kind.values()
    if one.__module__.startswith("plugins_core.")
]


@cache
def told_by_tests() -> str:
    """What all tests and the blueprints that they run say."""
    paths = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "blueprints").rglob("*.yaml")]
    return "\n".join(path.read_text() for path in paths if path != Path(__file__))


def models(model: type[BaseModel], seen: set[type[BaseModel]] | None = None) -> Iterator[type[BaseModel]]:
    """A model and those inside it."""
    seen = seen if seen is not None else set()
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for inner in _classes_in(field.annotation):
            yield from models(inner, seen)


def _classes_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _classes_in(argument)


_ROOTS: list[type[BaseModel]] = [Settings, *REGISTRY.settings.values()]
SETTINGS = [
    (model, name, field)
    for root in _ROOTS
    for model in models(root)
    for name, field in model.model_fields.items()
]


@pytest.mark.parametrize(
    ("model", "name", "field"), SETTINGS, ids=[f"{model.__name__}.{name}" for model, name, _ in SETTINGS]
)
def test_a_setting_is_described_and_tried_by_a_test(model: type[BaseModel], name: str, field: Any) -> None:
    assert field.description, f"{model.__name__}.{name} has no description"
    written = field.alias or name
    assert re.search(rf"\b(?:{re.escape(written)}|{re.escape(name)})\b", told_by_tests()), (
        f"no test names the setting {written}"
    )


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: one.type)
def test_every_field_of_a_component_is_described_down_to_the_last(component: type[BaseModel]) -> None:
    described = [component, *(getattr(component, one, None) for one in ("Output", "Data"))]
    for root in [one for one in described if one is not None]:
        for model in models(root):
            for name, field in model.model_fields.items():
                assert field.description, f"{model.__name__}.{name} of {component.type} has no description"  # type: ignore[attr-defined]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda one: one.type)
def test_a_component_and_each_of_its_fields_are_tried_by_a_test(component: type[BaseModel]) -> None:
    type_name = component.type  # type: ignore[attr-defined]
    assert re.search(rf"\b{re.escape(type_name)}\b", told_by_tests()), f"no test names {type_name}"
    examples = "\n".join(component.examples)  # type: ignore[attr-defined]
    for name, field in component.model_fields.items():
        written = field.alias or name
        assert re.search(rf"\b{re.escape(written)}\b", told_by_tests() + examples), (
            f"no test names {type_name}.{written}"
        )


def test_secret_sources_and_listeners_are_described() -> None:
    kinds: list[Any] = [*REGISTRY.secret_sources, *REGISTRY.listeners]
    for kind in kinds:
        assert kind.__doc__ not in (None, SecretSource.__doc__, Listener.__doc__), kind.type


# what authors import


def public() -> Iterator[tuple[str, Any]]:
    for module in (hub.plugin, hub.testing):
        for name in module.__all__:
            yield f"{module.__name__}.{name}", getattr(module, name)


PUBLIC = [(name, one) for name, one in public() if inspect.isclass(one) or inspect.isfunction(one)]


@pytest.mark.parametrize(("name", "value"), PUBLIC, ids=[name for name, _ in PUBLIC])
def test_what_is_public_is_described(name: str, value: Any) -> None:
    assert (value.__doc__ or "").strip(), f"{name} has no docstring"
    # what dataclasses write where nobody does
    assert not value.__doc__.startswith(f"{value.__name__}("), f"{name} has no docstring"
    if not inspect.isclass(value) or issubclass(value, enum.Enum) or name.endswith("Contract"):
        return
    for member, function in list(vars(value).items()):
        function = getattr(function, "__func__", function)
        if member.startswith("_") or not inspect.isfunction(function) or _is_inherited(value, member):
            continue
        assert (function.__doc__ or "").strip(), f"{name}.{member} has no docstring"


DATA = {name: one for name, one in PUBLIC if inspect.isclass(one) and dataclasses.is_dataclass(one)}


def _is_inherited(value: type[Any], member: str) -> bool:
    """Whether a base class says what a member is."""
    return any(hasattr(base, member) and getattr(base, member).__doc__ for base in value.__mro__[1:])


@pytest.mark.parametrize(
    "value",
    list(DATA.values()),
    ids=list(DATA),
)
def test_an_attribute_whose_name_does_not_say_it_is_described(value: type[Any]) -> None:
    """Every attribute of public data has a text beneath it, or says by its name and its type what it is."""
    tree = ast.parse(inspect.getsource(sys.modules[value.__module__]))
    [node] = [one for one in ast.walk(tree) if isinstance(one, ast.ClassDef) and one.name == value.__name__]
    for before, after in zip(node.body, [*node.body[1:], None], strict=True):
        if not isinstance(before, ast.AnnAssign) or not isinstance(before.target, ast.Name):
            continue
        is_told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        is_told = is_told or re.search(rf"\b{before.target.id}\b", value.__doc__ or "") is not None
        plain = ast.unparse(before.annotation)
        # a number, a flag or free data says nothing by its type
        assert is_told or plain not in ("Any", "Mapping[str, Any]", "dict[str, Any]"), (
            f"{value.__name__}.{before.target.id}"
        )


# the reference


def test_the_reference_of_a_plugin_is_printed_as_a_page_and_as_data(tmp_path: Path) -> None:
    page = hub_command("plugins", "docs", "schedule.cron", cwd=tmp_path).stdout
    assert page.startswith("## schedule.cron\n")
    assert "| `cron` | text | required |" in page
    assert "hub triggers list" in page
    [data] = json.loads(hub_command("plugins", "docs", "schedule.cron", "-o", "json", cwd=tmp_path).stdout)
    assert [one["name"] for one in data["fields"]["required"]] == ["cron"]
    assert {one["name"] for one in data["outputs"]} >= {"date", "next"}
    assert data["schema"]["properties"]["cron"]["description"]
    whole = json.loads(hub_command("plugins", "docs", "schedule", "-o", "json", cwd=tmp_path).stdout)
    assert [one["type"] for one in whole] == ["schedule.cron", "schedule.every"]
    wrong = hub_command("plugins", "docs", "schedul", cwd=tmp_path)
    assert wrong.returncode == 4
    assert 'did you mean "schedule"?' in wrong.stderr


def test_the_reference_as_data_has_every_component() -> None:
    data = json.loads((ROOT / "docs" / "reference" / "components.json").read_text())
    assert sorted((one["type"], one["kind"]) for one in data) == sorted(
        (one.type, kind)
        for kind, known in (
            ("task", REGISTRY.tasks),
            ("trigger", REGISTRY.triggers),
            ("notifier", REGISTRY.notifiers),
        )
        for one in known.values()
        if one.__module__.startswith("plugins_core.")
    )
    assert all(one["summary"] and one["examples"] for one in data)
