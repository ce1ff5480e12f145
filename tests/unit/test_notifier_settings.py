"""``notifiers:`` and ``notify:`` are checked at the start, each mistake with its place."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from hub.config import yaml
from hub.config.flows import load_flow
from hub.config.notifiers import read_notifiers, read_notify
from hub.config.schema import settings_schema
from hub.config.settings import load_settings
from hub.errors import InvalidFlow, InvalidSettings
from hub.expressions import builtin_functions
from hub.model.flow import NotifyRule
from tests.support.probe import probing

REGISTRY, _ = probing()
FUNCTIONS = builtin_functions(lambda: datetime.now(UTC)).with_functions(REGISTRY.functions)


def read(folder: Path, text: str) -> tuple[NotifyRule, ...]:
    (folder / "hub.yaml").write_text(text)
    settings = load_settings({}, folder=folder).settings
    return read_notify(settings, read_notifiers(settings, REGISTRY, FUNCTIONS), FUNCTIONS)


MISTAKES = [
    ("notifiers: {oncall: hello}", "1:21", "expected a mapping with the notifier's type"),
    ("notifiers:\n  oncall: {key: x}", "2:11", '"type" is required'),
    ("notifiers:\n  oncall: {type: prob}", "2:18", 'unknown notifier type "prob"'),
    ("notifiers:\n  oncall: {type: probe, kee: x}", "2:25", "notifiers.oncall.kee: unknown setting"),
    ("notifiers:\n  oncall: {type: probe, timeout: 5h}", "2:34", "expected at most 10 minutes"),
    ("notifiers:\n  oncall: {type: probe, schedule: [1m, x]}", "2:40", "schedule.1"),
    ("notifiers:\n  oncall: {type: probe, key: \"{{ secret('A' }}\"}", "2:30", "notifiers.oncall.key"),
    ("notifiers:\n  oncall: {type: probe, key: '{{ trigger.x }}'}", "2:30", "trigger"),
    ("notifiers:\n  on call: {type: probe}", "2:3", "a notifier's name is letters"),
    ("notify: {to: oncall}", "1:14", 'no notifier is called "oncall"'),
    ("notify:\n  - {to: a b}", "2:10", 'notify.0.to: "a b" cannot be a name'),
    ("notify:\n  - {to: a, at: FAILED}", "2:13", "notify.0.at: unknown setting"),
    ("notifiers: {a: {type: probe}}\nnotify: [{to: a, template: '{{ trigger.x }}'}]", "2:28", "trigger"),
]


@pytest.mark.parametrize(("text", "place", "message"), MISTAKES, ids=[one[2][:40] for one in MISTAKES])
def test_a_mistake_is_found_at_the_start_with_its_place(
    tmp_path: Path, text: str, place: str, message: str
) -> None:
    with pytest.raises(InvalidSettings) as found:
        read(tmp_path, text)
    assert f"hub.yaml:{place}" in found.value.message
    assert message in found.value.message


def test_what_an_expression_gives_is_judged_when_it_is_sent(tmp_path: Path) -> None:
    assert read(tmp_path, "notifiers: {a: {type: probe, key: \"{{ secret('KEY') }}\"}}") == ()


def test_the_closest_rule_comes_first(tmp_path: Path) -> None:
    rules = read(
        tmp_path,
        "notifiers: {a: {type: probe}}\nnotify:\n  - {to: a}\n  - {to: a, namespace: shop}\n"
        "  - {to: a, namespace: shop.intake}\n  - {to: a, namespace: shop, flow: orders}\n",
    )
    assert [(rule.namespace, rule.flow) for rule in rules] == [
        ("shop", "orders"),
        ("shop.intake", None),
        ("shop", None),
        (None, None),
    ]


@pytest.mark.parametrize(
    ("text", "is_good"),
    [
        ("notifiers: {a: {type: probe, key: \"{{ secret('KEY') }}\", timeout: 5s, schedule: [1m]}}", True),
        ("notifiers: {a: {type: probe, kee: x}}", False),
        ("notifiers: {a: {type: other}}", False),
        ("notifiers: {a: {key: x}}", False),
        ("notify: {to: a, on: failed}", True),
        ("notify: [{to: [a, b], on: [FAILED, warning], template: x, namespace: n}]", True),
        ("notify: [{to: a, template: {subject: x}, digest: 1h}]", True),
        ("notify: [{to: a, at: FAILED}]", False),
    ],
)
def test_the_schema_says_what_may_be_written(text: str, is_good: bool) -> None:
    schema = jsonschema.Draft202012Validator(settings_schema(REGISTRY))
    assert schema.is_valid(yaml.parse(text, "hub.yaml").root.plain()) is is_good


FLOW = "id: f\nnamespace: n\ntasks: [{id: a, type: log, message: x}]\nnotify:"
FLOW_MISTAKES = [
    (" {on: [FAILD], to: a}", "4:15", "on"),
    (" {on: FAILED}", "4:9", '"to" is required in notify'),
    (" [{to: a, template: {subjct: x}}]", "4:29", 'unknown property "subjct"'),
    (" {to: a, template: '{{ inputs.x }}'}", "4:38", "unknown input"),
    (" {to: a, template: '{{ flow.name }}'}", "4:36", "no member"),
    (" {to: a, throttle: 1m, digest: 1m}", "4:9", "give either throttle or digest"),
    (" {to: a, throttle: 8d}", "4:27", "at most 7 days"),
    (" {to: '{{ x }}'}", "4:14", "an expression cannot stand here"),
]


@pytest.mark.parametrize(("text", "place", "message"), FLOW_MISTAKES, ids=[one[0] for one in FLOW_MISTAKES])
def test_a_mistake_in_a_flow_is_found_with_its_place(text: str, place: str, message: str) -> None:
    with pytest.raises(InvalidFlow) as found:
        load_flow(FLOW + text, registry=REGISTRY, functions=FUNCTIONS)
    line, column = map(int, place.split(":"))
    problems = found.value.problems
    assert any(
        (one.position.line, one.position.column) == (line, column) and message in one.message
        for one in problems
    ), problems


_NAMING = (
    "id: f\nnamespace: t\nnotify:\n  - {to: oncal}\n  - {to: [oncall, team]}\ntasks:\n"
    "  - id: g\n    type: flow.sequential\n    tasks:\n"
    "      - {id: a, type: notify, to: sales, message: x}\n"
    "      - {id: b, type: notify, to: ['oncall', \"{{ labels.who }}\", 'nobody'], message: x}\n"
)


def test_a_name_that_the_settings_do_not_have_is_warned_about_at_save() -> None:
    registry = REGISTRY.with_notifier_names(["oncall"])
    found = load_flow(_NAMING, registry=registry, functions=FUNCTIONS).warnings
    assert [(one.position.line, one.message.split('"')[1], one.severity) for one in found] == [
        (4, "oncal", "warning"),
        (5, "team", "warning"),
        (10, "sales", "warning"),
        (11, "nobody", "warning"),
    ]
    assert found[0].hint == 'did you mean "oncall"?'
    assert found[1].hint == "add it there: notifiers: {team: {type: …}}"


def test_nobody_warns_of_names_where_no_settings_are_known() -> None:
    assert load_flow(_NAMING, registry=REGISTRY, functions=FUNCTIONS).warnings == ()
