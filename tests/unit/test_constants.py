"""What a trigger's field becomes is judged when the flow is saved, wherever only constants make it."""

from __future__ import annotations

import pytest

from hub.clock import SystemClock
from hub.config.flows import load_flow
from hub.errors import InvalidFlow
from hub.expressions import builtin_functions
from hub.registry import load_plugins

REGISTRY = load_plugins({})
FUNCTIONS = builtin_functions(SystemClock().now).with_functions(REGISTRY.functions)


def problems(trigger: str, variables: str = "{}") -> list[str]:
    source = (
        f"id: f\nnamespace: t\nvariables: {variables}\ntriggers:\n  - {trigger}\n"
        "tasks: [{id: a, type: log, message: x}]\n"
    )
    try:
        load_flow(source, file="f.yaml", registry=REGISTRY, functions=FUNCTIONS)
    except InvalidFlow as error:
        return [problem.text() for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("trigger", "variables", "message"),
    [
        (
            '{id: s, type: schedule.cron, cron: "@daily", timezone: "{{ vars.zone }}"}',
            "{zone: Europe/Pariss}",
            'f.yaml:5:60  timezone: unknown time zone "Europe/Pariss" (did you mean "Europe/Paris"?)',
        ),
        (
            '{id: s, type: schedule.cron, cron: "{{ vars.minute }} * * * *"}',
            "{minute: 61}",
            'f.yaml:5:40  cron: cron "61 * * * *" is not valid: minute is 0-59, got 61',
        ),
        (
            '{id: s, type: schedule.every, interval: "{{ vars.length }}"}',
            "{length: PT0.5S}",
            'f.yaml:5:45  interval: expected at least 1 second, got "PT0.5S"',
        ),
        (
            '{id: s, type: schedule.cron, cron: "@daily", missed: "{{ flow.id }}"}',
            "{}",
            "f.yaml:5:58  missed: expected 'skip', 'last' or 'all', got \"f\"",
        ),
    ],
)
def test_a_constant_that_cannot_be_is_found_when_the_flow_is_saved(
    trigger: str, variables: str, message: str
) -> None:
    [found] = problems(trigger, variables)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("trigger", "variables"),
    [
        ('{id: s, type: schedule.cron, cron: "@daily", timezone: "{{ vars.zone }}"}', "{zone: Europe/Paris}"),
        # not known before it runs
        ("{id: s, type: schedule.cron, cron: \"{{ secret('CRON') }}\"}", "{}"),
        ('{id: s, type: schedule.cron, cron: "{{ vars.cron }}"}', "{cron: \"{{ secret('CRON') }}\"}"),
        # rendered by the trigger itself, over each request
        ('{id: w, type: webhook, key: k, dedup: {key: "{{ trigger.body.id }}"}}', "{}"),
        ('{id: w, type: webhook, key: "{{ vars.key }}", methods: [POST]}', "{key: hook}"),
    ],
)
def test_what_is_fine_or_not_known_yet_is_left_alone(trigger: str, variables: str) -> None:
    assert problems(trigger, variables) == []


def test_a_mistake_is_said_once() -> None:
    assert len(problems('{id: s, type: schedule.cron, cron: "{{ vars.nope }}", timezone: Nowhere}')) == 2
