"""The settings in force, one by one, each with where it comes from; secrets are masked."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel, SecretStr, ValidationError

from hub.config.settings import FILE_NAME, Loaded
from hub.model.durations import format_duration
from hub.registry import Registry

MASK = "******"
DEFAULT = "default"
_SECRET_NAME = re.compile(
    r"secret|token|passw|webhook_?url|credential|private|api_?key|(?:^|[a-z_])key$", re.I
)
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/@:]*):([^\s/@]*)@")
_EXPRESSION = re.compile(r"\{\{.*\}\}\s*\Z", re.S)
_Path = tuple[str, ...]


@dataclass(frozen=True)
class EffectiveSetting:
    """One setting that is in force."""

    path: _Path
    value: Any
    origin: str
    """A flag, a variable, ``hub.yaml:LINE:COLUMN`` or ``default``."""

    @property
    def name(self) -> str:
        return ".".join(self.path)


def effective_settings(loaded: Loaded, registry: Registry) -> list[EffectiveSetting]:
    """Every setting with its value and origin, plugins' own included."""
    found = dict(_of_model(loaded.settings, ()))
    for name, model in registry.settings.items():
        given = {path[:length] for path in found for length in range(len(path) + 1)}
        for path, value in _defaults(model, ("plugins", name)):
            if path not in given:
                found[path] = value
        found.update(_declared_secrets(model, loaded.settings.plugins.get(name), ("plugins", name)))
    return [
        EffectiveSetting(path, _masked(path, value), _origin(loaded, path)) for path, value in found.items()
    ]


def _of_model(model: BaseModel, path: _Path) -> Iterator[tuple[_Path, Any]]:
    for name, info in type(model).model_fields.items():
        yield from _leaves(getattr(model, name), (*path, info.alias or name))


def _leaves(value: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """A value's parts that are no mapping; an empty mapping is a part itself."""
    if isinstance(value, BaseModel):
        yield from _of_model(value, path)
    elif isinstance(value, Mapping) and value:
        for name, inner in value.items():
            yield from _leaves(inner, (*path, str(name)))
    else:
        yield path, value


def _defaults(model: type[BaseModel], path: _Path) -> Iterator[tuple[_Path, Any]]:
    """What a plugin's settings are where nobody has set them; required ones have no default."""
    for name, info in model.model_fields.items():
        if not info.is_required():
            yield from _leaves(info.get_default(call_default_factory=True), (*path, info.alias or name))


def _declared_secrets(model: type[BaseModel], given: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """What a plugin's model itself calls a secret, whatever its name is."""
    if not isinstance(given, Mapping):
        return
    try:
        settings = model.model_validate({name: value for name, value in given.items() if name != "enabled"})
    except ValidationError:
        return  # the plugin says what is wrong when it is used
    yield from ((where, value) for where, value in _of_model(settings, path) if isinstance(value, SecretStr))


def _origin(loaded: Loaded, path: _Path) -> str:
    for length in range(len(path), 0, -1):
        if path[:length] in loaded.origins:
            return loaded.origins[path[:length]]
    node = loaded.document.root if loaded.document is not None else None
    for step in path:
        node = node.get(step) if node is not None else None
    return DEFAULT if node is None else f"{FILE_NAME}:{node.line}:{node.column}"


def _masked(path: _Path, value: Any) -> Any:
    """The value as it may be shown: an expression tells no secret, a secret is never shown."""
    if isinstance(value, SecretStr):
        return MASK
    if isinstance(value, BaseModel):
        return _masked(path, value.model_dump(by_alias=True))
    if isinstance(value, Mapping):
        return {name: _masked((*path, str(name)), inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_masked(path, inner) for inner in value]
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return MASK if _is_secret(path) else value
    text = format_duration(value) if isinstance(value, timedelta) else str(value)
    if _is_secret(path) and text and not _EXPRESSION.match(text.lstrip()):
        return MASK
    return without_password(text)


def without_password(url: str) -> str:
    """A text with the password of every URL in it masked."""
    return _URL_PASSWORD.sub(rf"\1:{MASK}@", url)


def _is_secret(path: _Path) -> bool:
    # what plugins and notifiers take is not known here as well as our own settings are
    return path[0] in ("plugins", "notifiers") and any(_SECRET_NAME.search(step) for step in path[1:])
