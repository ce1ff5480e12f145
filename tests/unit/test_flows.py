"""Flow files: what is read as it is written, what is refused, and what no file may do to the hub."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import field_validator

from hub.config.flows import LoadedFlow, load_flow
from hub.config.lint import flow_files, lint_files
from hub.config.text import render_problem
from hub.engine.catalog import FlowCatalog
from hub.engine.folders import FlowFolders
from hub.errors import InvalidFlow, Problem
from hub.expressions import builtin_functions
from hub.plugin import Task
from hub.registry import Registry, load_plugins

FUNCTIONS = builtin_functions(lambda: datetime(2026, 1, 31, tzinfo=UTC))
TASK = "tasks: [{id: t, type: log, message: hi}]\n"


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_plugins({})


def flow(text: str, tasks: str = TASK) -> str:
    return f"id: f\nnamespace: n\n{text}\n{tasks}"


def load(registry: Registry, source: str) -> LoadedFlow:
    return load_flow(source, file="f.hub.yaml", registry=registry, functions=FUNCTIONS)


def problems(registry: Registry, source: str) -> list[Problem]:
    """Everything that is found, warnings included."""
    try:
        return list(load(registry, source).warnings)
    except InvalidFlow as error:
        return list(error.problems)


def messages(registry: Registry, source: str) -> list[str]:
    return [problem.message for problem in problems(registry, source)]


def at(source: str, problem: Problem) -> str:
    """What the problem points at."""
    line = source.split("\n")[problem.position.line - 1]
    start = problem.position.column - 1
    return line[start : start + problem.length]


# -- numbers

HEX = "0x" + "f" * 4000


@pytest.mark.parametrize(
    "source",
    [
        flow(f"labels: {{{HEX}: 1}}"),
        flow(f"labels: {{a: {HEX}}}"),
        flow(f"variables: {{a: {HEX}}}"),
        flow(f"description: {HEX}"),
        flow(f"disabled: {HEX}"),
        flow(f"concurrency: {{limit: {HEX}}}"),
        flow(f"concurrency: {{limit: 1, behavior: {HEX}}}"),
        flow(f"inputs: [{{id: {HEX}, type: INT}}]"),
        flow(f"inputs: [{{id: a, type: {HEX}}}]"),
        flow(f"inputs: [{{id: a, type: SELECT, values: [{HEX}]}}]"),
        flow(f"inputs: [{{id: a, type: STRING, defaults: {HEX}}}]"),
        flow("", f"tasks: [{{id: t, type: log, message: {HEX}}}]"),
        flow("", f"tasks: [{{id: t, type: log, message: a, timeout: {HEX}}}]"),
        flow("", f"tasks: [{{id: t, type: http.request, uri: http://x, query: {{a: {HEX}}}}}]"),
        flow("variables: {a: 0o" + "7" * 4000 + "}"),
    ],
)
def test_a_long_number_is_refused_wherever_it_stands(registry: Registry, source: str) -> None:
    assert messages(registry, source) == ["a number of more than 1000 digits"]


@pytest.mark.parametrize("number", ["1" + "0" * 400, "0x" + "f" * 900, "'1e400'", "nan", "'1_0.5'", "'١.٥'"])
def test_a_fraction_that_cannot_be_one_is_a_problem_of_its_file(registry: Registry, number: str) -> None:
    source = flow(f"inputs: [{{id: a, type: FLOAT, defaults: {number}}}]")
    (message,) = messages(registry, source)
    assert message.startswith('defaults of input "a": expected a number, got ')


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            flow("concurrency: {limit: 99999999999999999999}"),
            "limit is a whole number from 1 to 1,000,000, got",
        ),
        (flow("concurrency: {limit: 1000001}"), "limit is a whole number from 1 to 1,000,000, got 1000001"),
        (flow("concurrency: {limit: true}"), "limit is a whole number from 1 to 1,000,000, got true"),
        (flow("concurrency: {limit: 0}"), "limit is a whole number from 1 to 1,000,000, got 0"),
        (
            flow("", "tasks: [{id: t, type: log, message: a, retry: {interval: 1s, maxAttempts: 1000001}}]"),
            "maxAttempts: expected at most 1000000, got 1000001",
        ),
    ],
)
def test_a_limit_that_no_storage_keeps_is_refused(registry: Registry, source: str, message: str) -> None:
    (found,) = messages(registry, source)
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", "'1_000'"), ("INT", "'١٢'"), ("INT", "'1e3'"), ("FLOAT", "'inf'"), ("FLOAT", "'1__0.5'"),
        ("DATE", "2026-W01-1"), ("DATE", "'20260101'"), ("DATE", "2026-1-1"), ("DURATION", "'١s'"),
    ],
)  # fmt: skip
def test_what_only_python_would_read_is_refused(registry: Registry, kind: str, value: str) -> None:
    (message,) = messages(registry, flow(f"inputs: [{{id: a, type: {kind}, defaults: {value}}}]"))
    assert 'defaults of input "a"' in message


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("INT", "' +5 '"), ("INT", "1e3"), ("FLOAT", "' -.5e3 '"), ("FLOAT", "'5.'"), ("FLOAT", "7"),
        ("DATE", "' 2026-01-31 '"), ("DURATION", "90m"),
    ],
)  # fmt: skip
def test_the_usual_spellings_are_taken(registry: Registry, kind: str, value: str) -> None:
    assert messages(registry, flow(f"inputs: [{{id: a, type: {kind}, defaults: {value}}}]")) == []


# -- what is read as it is written


def test_ids_labels_and_keys_keep_their_spelling(registry: Registry) -> None:
    source = (
        "id: 007\nnamespace: 1.10\nlabels: {1.0: 1.10, a: 0x10, b: True}\ndescription: 2.50\n"
        "tasks: [{id: 0x10, type: log, message: a}]"
    )
    read = load(registry, source).flow
    assert (read.id, read.namespace, read.tasks[0].id) == ("007", "1.10", "0x10")
    assert read.labels == {"1.0": "1.10", "a": "0x10", "b": "True"}
    assert read.description == "2.50"


@pytest.mark.parametrize("written", ["&m '{{ inputs.nope }}'", "!!str '{{ inputs.nope }}'"])
def test_a_text_with_an_anchor_or_a_tag_is_pointed_at_in_its_place(registry: Registry, written: str) -> None:
    source = flow("", f"tasks: [{{id: t, type: log, message: {written}}}]")
    (problem,) = problems(registry, source)
    assert at(source, problem) == "nope"


def test_what_an_alias_repeats_is_told_once(registry: Registry) -> None:
    tasks = "tasks:\n- {id: a, type: log, message: &m '{{ inputs.nope }}'}\n- {id: b, type: log, message: *m}"
    assert messages(registry, flow("", tasks)) == ['unknown input "nope"']


# -- names of properties


@pytest.mark.parametrize(
    ("task", "name", "meant"),
    [
        ("type: flow.parallel, concurrency_limit: 2, tasks: [{id: a, type: log, message: a}]", "concurrency_limit", "concurrencyLimit"),
        ("type: http.request, uri: http://x, json_: {}", "json_", "json"),
        ("type: http.request, uri: http://x, follow_redirects: false", "follow_redirects", "followRedirects"),
        ("type: log, message: a, retry: {interval: 1s, max_attempts: 2}", "max_attempts", "maxAttempts"),
        ("type: log, message: a, allow_failure: true", "allow_failure", "allowFailure"),
        ("type: flow.if, condition: true, then: [{id: a, type: log, message: a}], else_: []", "else_", "else"),
        ("type: http.request, uri: http://x, auth: {basc: {}}", "basc", "basic"),
    ],
)  # fmt: skip
def test_only_the_names_of_yaml_are_known(registry: Registry, task: str, name: str, meant: str) -> None:
    source = flow("", f"tasks: [{{id: t, {task}}}]")
    (problem,) = problems(registry, source)
    assert (problem.message, problem.hint) == (f'unknown property "{name}"', f'did you mean "{meant}"?')
    assert at(source, problem) == name


def test_python_may_make_a_component_by_its_own_names(registry: Registry) -> None:
    made: Any = registry.tasks["flow.parallel"].model_validate({"tasks": (), "concurrency_limit": 2})
    assert made.concurrency_limit == 2


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("triggers: [{id: w, type: webhook, key: k, verify: {scheme: gitub, secret: x}}]", 'did you mean "github"?'),
        ("triggers: [{id: w, type: schedule.cron, cron: '@daily', missed: lst}]", 'did you mean "last"?'),
        ("triggers: [{id: w, type: webhook, key: k, dedup: {key: x, windw: 1h}}]", 'did you mean "window"?'),
    ],
)  # fmt: skip
def test_near_names_are_found_in_nested_properties_and_choices(
    registry: Registry, text: str, hint: str
) -> None:
    (problem,) = problems(registry, flow(text))
    assert problem.hint == hint


# -- values


@pytest.mark.parametrize(
    ("retry", "where", "message"),
    [
        ("{interval: '{{ vars.i }}', maxAttempts: 3}", "'{{ vars.i }}'", "an expression cannot stand here: retry is read when the flow is saved"),
        ("{interval: 1s, maxAttempts: '{{ 3 }}'}", "'{{ 3 }}'", "an expression cannot stand here: retry is read when the flow is saved"),
        ("{interval: 1s, jitter: '{{ true }}'}", "'{{ true }}'", "an expression cannot stand here: retry is read when the flow is saved"),
        ("{type: [a], interval: 1s}", "[", '["a"] is not known here'),
        ("{type: random, interval: 5s, maxInterval: 1s}", "1s", "maxInterval is shorter than interval"),
        ("{interval: 1s, maxInterval: true}", "true", "maxInterval: expected a duration such as PT30S or 30s, got true or false"),
    ],
)  # fmt: skip
def test_a_retry_that_cannot_be_is_refused(registry: Registry, retry: str, where: str, message: str) -> None:
    source = flow("variables: {i: PT1S}", f"tasks: [{{id: t, type: log, message: a, retry: {retry}}}]")
    (problem,) = problems(registry, source)
    assert problem.message == message
    assert at(source, problem) == where


@pytest.mark.parametrize(
    ("timeout", "message"),
    [
        ("true", "expected a duration such as PT30S or 30s, got true or false"),
        ("[]", "expected a duration such as PT30S or 30s, got []"),
        ("null", "expected a duration such as PT30S or 30s, got null"),
        ("5", "a duration needs a unit: write 5s or PT5S"),
        ("0x" + "f" * 400, "a duration needs a unit: write 30s or PT30S"),
        ("PT0S", "a timeout is longer than nothing"),
        ("0s", "a timeout is longer than nothing"),
    ],
)
def test_a_timeout_that_cannot_be_is_refused(registry: Registry, timeout: str, message: str) -> None:
    tasks = f"tasks: [{{id: t, type: log, message: a, timeout: {timeout}}}]"
    assert messages(registry, flow("", tasks)) == [message]


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ("type: flow.loop, values: 5, tasks: [{id: a, type: log, message: a}]", "values: expected a list or a mapping, got 5"),
        ("type: http.request, uri: x", 'uri: "x" is not an http:// or https:// address'),
        ("type: http.request, uri: 'ftp://x'", 'uri: "ftp://x" is not an http:// or https:// address'),
    ],
)  # fmt: skip
def test_a_value_that_cannot_be_is_one_problem(registry: Registry, task: str, message: str) -> None:
    assert messages(registry, flow("", f"tasks: [{{id: t, {task}}}]")) == [message]


def test_an_address_that_is_rendered_is_looked_at_when_it_is_known(registry: Registry) -> None:
    tasks = "tasks: [{id: t, type: http.request, uri: '{{ vars.base }}/x'}]"
    assert messages(registry, flow("variables: {base: 'http://x'}", tasks)) == []


@pytest.mark.parametrize(
    ("values", "defaults", "found"),
    [
        ("[1, true, 1.5]", "true", []),
        ("[1, true, 1.5]", "1.5", []),
        ("[null, a]", "a", ["each of the values is text, got nothing"]),
        ("[[b], a]", "a", ["each of the values is text, got a list"]),
        ("[a, a]", "a", ['duplicate value "a"']),
        ("[1, '1']", "1", ['duplicate value "1"']),
        ("x", "a", ['"values" is a list, got text']),
        ("[]", "a", ["a SELECT input needs values"]),
    ],
)
def test_a_select_chooses_from_texts(
    registry: Registry, values: str, defaults: str, found: list[str]
) -> None:
    source = flow(f"inputs: [{{id: a, type: SELECT, values: {values}, defaults: {defaults}}}]")
    assert messages(registry, source) == found


def test_an_input_without_an_id_is_told_in_english(registry: Registry) -> None:
    assert messages(registry, flow("inputs: [{type: INT}]")) == ['"id" is required in an input']


@pytest.mark.parametrize(
    ("text", "message", "where"),
    [
        ("labels: {a: '{{ inputs.d }}'}", 'label "a" is never rendered: it stays as it is written', "'{{ inputs.d }}'"),
        ("inputs: [{id: d, type: STRING, defaults: '{{ now() }}'}]", 'defaults of input "d" is never rendered: it stays as it is written', "'{{ now() }}'"),
        ("inputs: [{id: d, type: JSON, defaults: {a: '{{ now() }}'}}]", 'defaults of input "d" is never rendered: it stays as it is written', "{"),
    ],
)  # fmt: skip
def test_an_expression_that_is_never_rendered_is_warned_of(
    registry: Registry, text: str, message: str, where: str
) -> None:
    source = flow(text)
    (problem,) = problems(registry, source)
    assert (problem.severity, problem.message) == ("warning", message)
    assert at(source, problem) == where


# -- what expressions see


def test_a_concurrency_key_sees_the_variables(registry: Registry) -> None:
    assert messages(registry, flow("variables: {a: 1}\nconcurrency: {limit: 1, key: '{{ vars.a }}'}")) == []


@pytest.mark.parametrize(
    "task",
    [
        "type: log, message: a",
        "type: flow.sequential, tasks: [{id: a, type: log, message: a}]",
        "type: flow.parallel, tasks: [{id: a, type: log, message: a}]",
        "type: flow.sleep, duration: 1s",
        "type: execution.fail",
    ],
)
def test_a_task_that_gives_nothing_has_no_outputs(registry: Registry, task: str) -> None:
    tasks = f"tasks: [{{id: t, {task}}}, {{id: u, type: return, value: '{{{{ outputs.t.value }}}}'}}]"
    (problem,) = problems(registry, flow("", tasks))
    assert (problem.message, problem.hint) == (
        '"outputs.t" has no output "value"',
        "this type of task gives none",
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("{{ outputs.t.value }}", ['task "t" is disabled']),
        ("{{ outputs.t.value ?? 1 }}", []),
        ("{{ outputs.t.value | default(1) }}", []),
        ("{{ outputs.t is defined }}", []),
        ("{% if outputs.t is defined %}{{ outputs.t.value }}{% endif %}", []),
        ("{{ outputs.t is defined and outputs.t.value > 1 }}", []),
        ("{{ outputs.t is defined ? outputs.t.value : 1 }}", []),
        ("{{ 1 ?? outputs.t.value }}", ['task "t" is disabled']),
        ("{{ outputs.later.value ?? 1 }}", ['task "later" has not run by then']),
    ],
)
def test_the_output_of_a_disabled_task_may_be_asked_for(
    registry: Registry, value: str, found: list[str]
) -> None:
    tasks = (
        f'tasks: [{{id: t, type: return, value: 1, disabled: true}}, {{id: u, type: return, value: "{value}"}},'
        " {id: later, type: return, value: 1}]"
    )
    assert messages(registry, flow("", tasks)) == found


@pytest.mark.parametrize(
    ("task", "is_warned"),
    [
        ("message: '{{ error.task }}'", True),
        ("message: '{{ error.task ?? 1 }}'", False),
        ("message: '{{ error is defined }}'", False),
        ("message: '{% if error is defined %}{{ error.message }}{% endif %}'", False),
        ("when: '{{ error is defined }}', message: '{{ error.message }}'", False),
    ],
)
def test_the_error_is_not_always_there_in_finally(registry: Registry, task: str, is_warned: bool) -> None:
    found = problems(registry, flow(f"finally: [{{id: f, type: log, {task}}}]"))
    assert [problem.severity for problem in found] == ["warning"] * is_warned


def test_the_error_is_always_there_in_errors(registry: Registry) -> None:
    assert messages(registry, flow("errors: [{id: f, type: log, message: '{{ error.task }}'}]")) == []


GROUPS = """
tasks:
  - id: p
    type: flow.parallel
    tasks:
      - id: one
        type: flow.sequential
        tasks:
          - {id: a, type: return, value: 1}
          - {id: b, type: return, value: "{{ outputs.a.value }}"}
          - id: deep
            type: flow.if
            condition: true
            then: [{id: c, type: return, value: "{{ outputs.b.value }}"}]
            else: [{id: d, type: return, value: "{{ outputs.c.value }}"}]
      - {id: e, type: return, value: "{{ outputs.a.value ?? outputs.c.value }}"}
  - id: loop
    type: flow.loop
    values: [1]
    tasks:
      - {id: g, type: return, value: "{{ outputs.a.value }}{{ outputs.c.value }}{{ outputs.e.value }}"}
      - {id: h, type: return, value: "{{ outputs.g.value }}"}
  - {id: i, type: return, value: "{{ outputs.h.value }}{{ outputs.loop.iterationCount }}{{ outputs.d.value }}"}
"""


def test_tasks_see_what_has_run_by_then_on_their_way(registry: Registry) -> None:
    assert messages(registry, flow("", GROUPS)) == [
        'task "c" is in the other branch',
        'task "a" runs beside this one',
        'task "c" runs beside this one',
        'task "h" is inside the loop "loop"; its outputs stay there',
    ]


# -- a dash in a name


@pytest.mark.parametrize(
    ("value", "message", "where", "hint"),
    [
        ("outputs.step-1.value", 'a dash is a minus here: unknown task "step"', "outputs.step-1.value", "write outputs['step-1'].value"),
        ("trigger.headers.x-github-event", "a dash is a minus here", "trigger.headers.x-github-event", "write trigger.headers['x-github-event']"),
        ("1 + outputs.my-task.value", 'a dash is a minus here: unknown task "my"', "outputs.my-task.value", "write outputs['my-task'].value"),
        ("-outputs.my-task.value", 'a dash is a minus here: unknown task "my"', "outputs.my-task.value", "write outputs['my-task'].value"),
        ("outputs.a-in.value", "a dash is a minus here", "outputs.a-in.value", "write outputs['a-in'].value"),
        ("outputs.a-1st.value", "a dash is a minus here", "outputs.a-1st.value", "write outputs['a-1st'].value"),
        ("outputs.my-tsk.value", 'a dash is a minus here: unknown task "my"', "outputs.my-tsk.value", "write outputs['my-task'].value"),
        ("outputs.my-task.value[0]", 'a dash is a minus here: unknown task "my"', "outputs.my-task.value[0]", "write outputs['my-task'].value[0]"),
        ("[outputs.my-task.value, 2]", 'a dash is a minus here: unknown task "my"', "outputs.my-task.value", "write outputs['my-task'].value"),
        ("outputs.both-1.value", "a dash is a minus here", "outputs.both-1.value", "write outputs['both-1'].value"),
        ("inputs.my-day", 'a dash is a minus here: unknown input "my"', "inputs.my-day", "write inputs['my-day']"),
    ],
)  # fmt: skip
def test_a_dash_in_a_name_is_one_problem_that_says_how_it_is_written(
    registry: Registry, value: str, message: str, where: str, hint: str
) -> None:
    names = ("step-1", "my-task", "a-in", "a-1st", "both", "both-1")
    tasks = "".join(f"- {{id: {name}, type: return, value: 1}}\n" for name in names)
    text = "triggers: [{id: w, type: webhook, key: k}]\ninputs: [{id: my-day, type: DATE, required: false}]"
    source = flow(
        text,
        f"tasks:\n{tasks}- {{id: t, type: return, value: '{{{{ {value.replace(chr(39), chr(39) * 2)} }}}}'}}",
    )
    (problem,) = problems(registry, source)
    assert (problem.message, problem.hint) == (message, hint)
    assert at(source, problem) == where


@pytest.mark.parametrize(
    "value",
    [
        "inputs.n-1",
        "inputs.n-inputs.m",
        "vars.total-1",
        "trigger.body.total-inputs.n",
        "trigger.body.total-1",
    ],
)
def test_a_dash_between_numbers_is_a_minus(registry: Registry, value: str) -> None:
    text = (
        "triggers: [{id: w, type: webhook, key: k}]\nvariables: {total: 3}\n"
        "inputs: [{id: n, type: INT, required: false}, {id: m, type: INT, required: false}, {id: n-1, type: INT, required: false}]"
    )
    assert (
        messages(registry, flow(text, f"tasks: [{{id: t, type: return, value: '{{{{ {value} }}}}'}}]")) == []
    )


# -- many problems, in a time that fits the file


def test_no_more_problems_than_can_be_read_are_told(registry: Registry) -> None:
    tasks = "tasks:\n" + "".join(
        f"- {{id: x{n}, type: log, message: '{{{{ inputs.q }}}}'}}\n" for n in range(1900)
    )
    found = problems(registry, flow("", tasks))
    assert len(found) == 101
    assert found[-1].message == "and 1,800 more, 1,800 of them errors"


def test_warnings_alone_are_no_errors_however_many_they_are(registry: Registry) -> None:
    labels = "".join(f"  l{n}: '{{{{ 1 }}}}'\n" for n in range(150))
    assert load(registry, flow(f"labels:\n{labels}")).warnings[-1].message == "and 50 more, 0 of them errors"


FLOODS = {
    "near names": "tasks:\n" + "".join(f"- {{id: x{n}, type: log, message: '{{{{ outputs.x{n}y.v }}}}'}}\n" for n in range(1900)),
    "parallel tasks": "tasks:\n- id: p\n  type: flow.parallel\n  tasks:\n"
    + "".join(f"  - {{id: x{n}, type: return, value: '{{{{ 1 }}}}'}}\n" for n in range(1900)),
    "loops": "tasks:\n" + "".join(
        f"- {{id: l{n}, type: flow.loop, values: [1], tasks: [{{id: x{n}, type: log, message: '{{{{ item.value }}}}'}}]}}\n" for n in range(950)
    ),
    "unknown properties": "tasks:\n" + "".join(f"- {{id: x{n}, type: log, mesage: a}}\n" for n in range(1900)),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
def test_a_large_file_is_checked_and_its_problems_shown_in_time(registry: Registry, name: str) -> None:
    source = flow("", FLOODS[name])
    began = time.thread_time()
    found = problems(registry, source)
    for problem in found:
        render_problem(problem, source)
    assert time.thread_time() - began < 1.5


# -- files


def test_what_is_piped_in_is_checked(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"id: a")))
    report = lint_files(flow_files([Path("-")]), registry, FUNCTIONS)
    assert report.files == ["<stdin>"]
    assert {problem.file for problem in report.problems} == {"<stdin>"}


def test_a_link_to_nowhere_is_a_problem(registry: Registry, tmp_path: Path) -> None:
    (tmp_path / "x.hub.yaml").symlink_to(tmp_path / "nowhere")
    (problem,) = lint_files(flow_files([tmp_path]), registry, FUNCTIONS).problems
    assert problem.message == "cannot be read: No such file or directory"


# -- a fault of ours, or of a plugin


class Broken(Task):
    """A task whose model fails in a way nobody foresaw."""

    type: ClassVar[str] = "broken"

    value: Any = None

    @field_validator("value", mode="before")
    @classmethod
    def _fail(cls, value: Any) -> Any:
        raise ZeroDivisionError("nobody foresaw this")


@pytest.fixture
def broken() -> Registry:
    found = load_plugins({})
    return replace(found, tasks={**found.tasks, "broken": Broken})


BROKEN = flow("", "tasks: [{id: t, type: broken, value: 1}]")


def test_an_unforeseen_error_is_a_problem_of_its_file(
    broken: Registry, caplog: pytest.LogCaptureFixture
) -> None:
    assert messages(broken, BROKEN) == ["internal error while reading this file: ZeroDivisionError"]
    assert "nobody foresaw this" in caplog.text


def test_lint_goes_on_after_a_file_that_fails(broken: Registry, tmp_path: Path) -> None:
    bad, good = tmp_path / "a.hub.yaml", tmp_path / "b.hub.yaml"
    bad.write_text(BROKEN)
    good.write_text(flow("labels: {a: }"))
    report = lint_files([bad, good], broken, FUNCTIONS)
    assert [Path(problem.file or "").name for problem in report.problems] == ["a.hub.yaml", "b.hub.yaml"]


class Catalog:
    """The part of the catalogue that a folder uses; ``put`` fails for one file in a way nobody foresaw."""

    def __init__(self) -> None:
        self.broken: dict[str, tuple[Problem, ...]] = {}
        self.put_files: list[str] = []

    def records(self) -> list[Any]:
        return []

    @staticmethod
    def digest(source: str) -> str:
        return FlowCatalog.digest(source)

    async def put(self, source: str, *, origin: str, file: str) -> Any:
        self.put_files.append(Path(file).name)
        raise RuntimeError("nobody foresaw this")


async def test_a_folder_is_read_on_after_a_file_that_fails(tmp_path: Path) -> None:
    for name in ("a.hub.yaml", "b.hub.yaml"):
        (tmp_path / name).write_text(flow(""))
    catalog: Any = Catalog()
    await FlowFolders([tmp_path], catalog).scan()
    assert catalog.put_files == ["a.hub.yaml", "b.hub.yaml"]
    (first, _) = catalog.broken.values()
    assert first[0].message == "internal error while loading: RuntimeError"
