"""The notifiers of ``hub.yaml``: each a component of a plugin under a name of the user's, checked at the start.

A text may hold an expression, ``{{ secret('NAME') }}`` above all; what it gives is known only when something is
sent, so it is judged then.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from hub.config.components import field_names, message_of, names_at
from hub.config.expressions import NOTICE_NAMES
from hub.config.settings import Settings
from hub.errors import ExpressionError, InvalidSettings, did_you_mean
from hub.expressions import FunctionTable, Shape, check_template, parse_template
from hub.model import jsontext
from hub.model.flow import NotifyRule
from hub.model.ids import is_id
from hub.plugin.notifier import Notifier
from hub.registry import Registry


@dataclass(frozen=True, slots=True)
class NotifierDeclaration:
    """One notifier as the settings declare it."""

    name: str
    component: type[Notifier]
    properties: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """Tells these settings from others under the same name: a receiver that wanted nothing may be another
        one now. Expressions are in it as written, so no secret is."""
        text = jsontext.dumps([self.component.type, self.properties])
        return f"{self.name}#{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def read_notifiers(
    settings: Settings, registry: Registry, functions: FunctionTable
) -> dict[str, NotifierDeclaration]:
    """Every notifier by its name. Raises ``InvalidSettings`` with the place of a mistake."""
    return {name: _read(settings, name, registry, functions) for name in settings.notifiers}


def read_notify(
    settings: Settings, notifiers: Mapping[str, NotifierDeclaration], functions: FunctionTable
) -> tuple[NotifyRule, ...]:
    """The hub's own rules, the closest first. Raises ``InvalidSettings`` with the place of a mistake."""
    rules: list[NotifyRule] = []
    for place, given in enumerate(settings.notify):
        path = ("notify", str(place))
        rule = given.rule(namespace=given.namespace, flow=given.flow)
        for name in rule.to:
            if name not in notifiers:
                hint = did_you_mean(name, list(notifiers)) or f"add notifiers: {{{name}: {{type: …}}}}"
                raise settings.mistake((*path, "to"), f'no notifier is called "{name}"', hint)
        for what in ("subject", "message", "html"):
            text = getattr(rule.template, what)
            if text is not None:
                _check_text(settings, (*path, "template", what), text, NOTICE_NAMES, functions)
        rules.append(rule)
    return tuple(sorted(rules, key=_distance))


def _distance(rule: NotifyRule) -> tuple[bool, int]:
    """A flow's rule before its namespace's, a longer namespace's before a shorter one's, the hub's last."""
    return rule.flow is None, -len(rule.namespace or "")


def _read(settings: Settings, name: str, registry: Registry, functions: FunctionTable) -> NotifierDeclaration:
    path, given = ("notifiers", name), settings.notifiers[name]
    if not is_id(name):
        raise settings.mistake(
            path,
            "a notifier's name is letters, digits, - and _, beginning with a letter or digit",
            at_key=True,
        )
    if not isinstance(given, Mapping):
        raise settings.mistake(path, "expected a mapping with the notifier's type", "write {type: email, …}")
    component = _component(settings, path, given, registry)
    properties = {str(key): value for key, value in given.items() if key != "type"}
    try:
        # by the names of YAML only: a plugin's tests may use Python's
        component.model_validate(properties, by_alias=True, by_name=False)
    except ValidationError as error:
        _judge(settings, path, component, properties, error)
    for key, value in properties.items():
        _check(settings, (*path, key), value, functions)
    return NotifierDeclaration(name, component, properties)


def _component(
    settings: Settings, path: tuple[str, ...], given: Mapping[Any, Any], registry: Registry
) -> type[Notifier]:
    known = registry.notifiers
    if "type" not in given:
        raise settings.mistake(path, '"type" is required', f"there are {', '.join(sorted(known)) or 'none'}")
    wanted = str(given["type"])
    if wanted not in known:
        hint = registry.explain("notifier", wanted) or did_you_mean(wanted, list(known))
        there_are = f"there are {', '.join(sorted(known)) or 'none'}"
        raise settings.mistake((*path, "type"), f'unknown notifier type "{wanted}"', hint or there_are)
    return known[wanted]


def _judge(
    settings: Settings,
    path: tuple[str, ...],
    component: type[Notifier],
    properties: Mapping[str, Any],
    error: ValidationError,
) -> None:
    """Raise for the first mistake that is one whatever the expressions give."""
    for one in error.errors(include_url=False, include_context=True):
        place = (*path, *(str(step) for step in _steps(properties, one["loc"])))
        if one["type"] == "extra_forbidden":
            # by the way it was written, which a union's branches are no part of
            steps = place[len(path) :]
            known = [*field_names(component), "type"] if len(steps) == 1 else names_at(component, steps[:-1])
            hint = did_you_mean(place[-1], known) or f"there are {', '.join(sorted(known))}"
            raise settings.mistake(place, "unknown setting", hint, at_key=True)
        if one["type"] == "missing":
            raise settings.mistake(place, f'"{one["loc"][-1]}" is required')
        if not _holds_expression(_at(properties, one["loc"])):
            raise settings.mistake(place, message_of(one))


def _steps(value: Any, location: tuple[Any, ...]) -> list[Any]:
    """The steps of pydantic's location that lead somewhere in what was written."""
    taken: list[Any] = []
    for step in location:
        if (isinstance(value, Mapping) and step in value) or (
            isinstance(value, list) and isinstance(step, int) and step < len(value)
        ):
            value = value[step]
        else:
            continue
        taken.append(step)
    return taken


def _at(value: Any, location: tuple[Any, ...]) -> Any:
    for step in _steps(value, location):
        value = value[step]
    return value


def _holds_expression(value: Any) -> bool:
    if isinstance(value, str):
        return "{{" in value or "{%" in value
    inner = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    return any(map(_holds_expression, inner))


def _check(settings: Settings, path: tuple[str, ...], value: Any, functions: FunctionTable) -> None:
    """Check every text at and below a value; it sees no names, only functions."""
    if isinstance(value, str):
        _check_text(settings, path, value, {}, functions)
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            _check(settings, (*path, str(key)), inner, functions)
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            _check(settings, (*path, str(place)), inner, functions)


def _check_text(
    settings: Settings,
    path: tuple[str, ...],
    text: str,
    names: Mapping[str, Shape],
    functions: FunctionTable,
) -> None:
    if "{" not in text:
        return
    try:
        findings = check_template(parse_template(text), names, functions, None)
    except ExpressionError as error:
        raise settings.mistake(path, error.message, error.hint) from error
    for finding in findings:
        if finding.severity == "error":
            raise settings.mistake(path, finding.message, finding.hint)


__all__ = ["InvalidSettings", "NotifierDeclaration", "read_notifiers", "read_notify"]
