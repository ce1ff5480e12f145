"""The public surface of ``hub.plugin`` changes on purpose only, and its number is checked when a plugin is loaded.

``python -m tests.unit.test_plugin_api`` writes ``plugin_api.txt`` anew: what is added raises ``API_VERSION``, what is
taken away or changed raises ``OLDEST_API`` too, and the major version.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import hub.plugin
from hub.plugin import API_VERSION, OLDEST_API
from tests.support.plugins import load, module_of, point

PINNED = Path(__file__).with_name("plugin_api.txt")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def surface() -> str:
    """Every public name, with the signatures of what can be called."""
    lines = [f"API {API_VERSION}, oldest {OLDEST_API}"]
    for name in sorted(hub.plugin.__all__):
        lines += [f"{name}{line}" for line in _described(getattr(hub.plugin, name))]
    return "\n".join(lines) + "\n"


def _described(value: Any) -> Iterator[str]:
    if inspect.ismodule(value):
        for name in sorted(one for one in vars(value) if not one.startswith("_")):
            found = getattr(value, name)
            if inspect.isfunction(found) and found.__module__ == value.__name__:
                yield f".{name}{_signature(found)}"
    elif isinstance(value, type):
        yield f" = class({', '.join(base.__name__ for base in value.__bases__)})"
        yield from _fields(value)
        for name, member in sorted(vars(value).items()):
            if name.startswith("_") and name != "__init__":
                continue
            function = getattr(member, "__func__", member)
            if isinstance(member, property):
                yield f".{name} property"
            elif inspect.isfunction(function) and not (name == "__init__" and _has_fields(value)):
                yield f".{name}{_signature(function)}"
    elif inspect.isfunction(value):
        yield _signature(value)
    else:
        yield f": {_ADDRESS.sub('', re.sub(r'hub[.](?:[a-z_]+[.])*', '', repr(value)))}"


def _has_fields(value: type[Any]) -> bool:
    return dataclasses.is_dataclass(value) or issubclass(value, BaseModel | enum.Enum)


def _fields(value: type[Any]) -> Iterator[str]:
    if issubclass(value, enum.Enum):
        yield f" [{', '.join(str(one.value) for one in value)}]"
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            is_optional = (field.default, field.default_factory) != (dataclasses.MISSING, dataclasses.MISSING)
            yield f".{field.name}: {field.type}{' = …' if is_optional else ''}"
    elif issubclass(value, BaseModel):
        for name, info in value.model_fields.items():
            yield f".{name}: field{'' if info.is_required() else ' = …'}"
    else:
        for name, annotation in sorted(inspect.get_annotations(value).items()):
            if not name.startswith("_"):
                yield f".{name}: {annotation}"


def _signature(function: Any) -> str:
    kind = "async " if inspect.iscoroutinefunction(function) else ""
    return (
        f" {kind}{inspect.signature(function)}".replace(" (", "(", 1)
        if not kind
        else f" {kind}{inspect.signature(function)}"
    )


def test_the_public_surface_is_what_was_written_down() -> None:
    assert surface() == PINNED.read_text(), "changed on purpose? see the top of this file"


def test_every_public_name_is_there_once() -> None:
    assert len(set(hub.plugin.__all__)) == len(hub.plugin.__all__)


@pytest.mark.parametrize("number", [None, API_VERSION, OLDEST_API])
def test_a_plugin_for_this_api_is_loaded(number: int | None) -> None:
    given = {} if number is None else {"HUB_API": number}
    _, reports = load(point("acme", "asynchub-acme", module=module_of("acme_api", **given)))
    assert reports["acme/asynchub-acme"].state == "loaded"


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (
            API_VERSION + 1,
            f"written for plugin API {API_VERSION + 1}, this hub has {API_VERSION} (update asynchub)",
        ),
        (OLDEST_API - 1, f"written for plugin API {OLDEST_API - 1}, this hub understands {OLDEST_API} to"),
        ("1", "HUB_API is a whole number, got '1' (write HUB_API = 1)"),
        (True, "HUB_API is a whole number, got True"),
    ],
)
def test_a_plugin_for_another_api_is_named_with_what_to_do(number: Any, message: str) -> None:
    _, reports = load(point("acme", "asynchub-acme", module=module_of("acme_api", HUB_API=number)))
    report = reports["acme/asynchub-acme"]
    assert report.state == "failed"
    assert message in str(report.error)


if __name__ == "__main__":
    PINNED.write_text(surface())
