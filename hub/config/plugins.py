"""The plugins' own settings: ``plugins.<name>`` of ``hub.yaml``, checked with the model that the plugin brings.

Called once the plugins are loaded, since they bring the models. A mistake stops the start with its place in the
file. A plugin that needs settings and was given none is left out and says what it needs: it may be installed
only because something else came with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from hub.config.components import field_names, message_of
from hub.config.settings import Settings
from hub.errors import InvalidSettings, did_you_mean
from hub.registry import PluginReport, Registry

_ENABLED = "enabled"
"""The one setting of every plugin, which is the hub's own."""


def with_plugin_settings(registry: Registry, settings: Settings) -> Registry:
    """The registry with every plugin's settings in it. Raises ``InvalidSettings`` with the place of a mistake."""
    reports = {report.name: report for report in registry.plugins}
    given = {
        name: _given(settings, name, reports, has_model=name in registry.settings)
        for name in settings.plugins
    }
    values: dict[str, BaseModel] = {}
    for name, model in registry.settings.items():
        try:
            values[name] = model.model_validate(given.get(name, {}))
        except ValidationError as error:
            if name in given:
                raise _invalid(settings, name, model, error) from error
            registry = registry.without(name, _needs(name, error))
    return registry.with_values(values)


def _given(
    settings: Settings, name: str, reports: Mapping[str, PluginReport], *, has_model: bool
) -> Mapping[str, Any]:
    """What is set for a plugin, without what is the hub's own."""
    path = ("plugins", name)
    value = settings.plugins[name]
    installed = [one.name for one in reports.values() if one.distribution is not None or one.state != "off"]
    if name not in installed:
        near = did_you_mean(name, installed)
        # one that is not there may be switched off, as long as no other was meant
        if near or name not in reports:
            hint = near or "hub plugins list shows what is installed"
            raise settings.mistake(path, "no plugin of this name is installed", hint, at_key=True)
    given = {} if value is None else value
    if not isinstance(given, Mapping):
        raise settings.mistake(path, "expected a mapping of the plugin's settings")
    enabled = given.get(_ENABLED, True)
    if not isinstance(enabled, bool):
        raise settings.mistake((*path, _ENABLED), "expected true or false")
    if not enabled:
        return {}
    if reports[name].state == "failed":
        raise settings.mistake(path, reports[name].error or "it cannot be loaded", at_key=True)
    own = {key: value for key, value in given.items() if key != _ENABLED}
    if own and not has_model:
        raise settings.mistake(path, "the plugin has no settings", f"leave out {', '.join(map(str, own))}")
    return own


def _invalid(
    settings: Settings, plugin: str, model: type[BaseModel], error: ValidationError
) -> InvalidSettings:
    one = error.errors(include_url=False)[0]
    path = ("plugins", plugin, *(str(step) for step in one["loc"]))
    if one["type"] == "extra_forbidden":
        known = [*field_names(model), _ENABLED] if len(one["loc"]) == 1 else []
        return settings.mistake(path, "unknown setting", did_you_mean(path[-1], known), at_key=True)
    return settings.mistake(path, _message(one))


def _needs(plugin: str, error: ValidationError) -> str:
    """What a plugin needs that was given nothing."""
    wanted = ", ".join(
        ".".join(("plugins", plugin, *(str(step) for step in one["loc"])))
        + (": " + _message(one) if one["type"] != "missing" else "")
        for one in error.errors(include_url=False)
    )
    return f'plugin "{plugin}" needs settings: {wanted}. Set them in hub.yaml'


def _message(one: Any) -> str:
    return "is required" if one["type"] == "missing" else message_of(one)
