"""Flows that would start each other for ever are found before they are saved, with the chain by name."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub.config.lint import lint_files
from hub.errors import Problem
from hub.expressions import builtin_functions
from hub.registry import load_plugins

_REGISTRY = load_plugins({})
_FUNCTIONS = builtin_functions(lambda: datetime.now(UTC))


def found(folder: Path, **triggers: str) -> list[Problem]:
    """What is found in flows of namespace ``n``, each with one trigger ``t``, in the order of their names."""
    files = []
    for name, trigger in triggers.items():
        file = folder / f"{name}.hub.yaml"
        more = "disabled: true\n" if name.startswith("off") else ""
        file.write_text(
            f"id: {name}\nnamespace: n\nlabels: {{is: {name}}}\n{more}triggers:\n  - id: t\n    type: flow.finished\n"
            f"    {trigger}\ntasks: [{{id: a, type: log, message: x}}]\n"
        )
        files.append(file)
    problems = lint_files(files, _REGISTRY, _FUNCTIONS).problems
    for problem in problems:
        assert problem.file is not None
        line = Path(problem.file).read_text().splitlines()[problem.position.line - 1]
        assert line[problem.position.column - 1 :].startswith("id: t")
    return problems


def test_two_flows_that_start_each_other_are_an_error_of_the_one_that_closes_the_loop(tmp_path: Path) -> None:
    [problem] = found(tmp_path, a="flow: b", b="flow: a")
    assert problem.severity == "error"
    assert Path(str(problem.file)).name == "b.hub.yaml"
    assert problem.message == "flow n/b would be started by its own ends, on and on: n/b → n/a → n/b"
    assert "cut after 20 flows" in str(problem.hint)


def test_a_long_chain_is_named_flow_by_flow_and_the_shortest_one_of_several(tmp_path: Path) -> None:
    names = [f"f{n}" for n in range(8)]
    triggers = {name: f"flow: {before}" for name, before in zip(names, [names[-1], *names[:-1]], strict=True)}
    [problem] = found(tmp_path, **triggers)
    assert " → ".join(["n/f7", *(f"n/{name}" for name in names)]) in problem.message


def test_a_loop_of_failures_alone_is_a_warning_that_names_the_ends(tmp_path: Path) -> None:
    [problem] = found(tmp_path, a="states: [FAILED]", b="states: [FAILED, KILLED]")
    assert problem.severity == "warning"
    shown = "n/b (FAILED) → n/a (FAILED, KILLED) → n/b"
    assert problem.message == f"flow n/b may be started by its own ends, on and on: {shown}"


def test_patterns_and_labels_are_read_as_the_hub_reads_them(tmp_path: Path) -> None:
    [problem] = found(tmp_path, a="namespace: n*", b="labels: {is: a}")
    assert "n/b → n/a → n/b" in problem.message
    assert found(tmp_path, a="labels: {is: c}", b="flow: a") == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("flow: b", "flow: c"),
        ("flow: b", 'flow: a\n    when: "{{ trigger.outputs.more ?? false }}"'),
        ("flow: b", "flow: a\n    disabled: true"),
        ("flow: b", "flow: \"{{ secret('OTHER') }}\""),
        ("flow: b\n    states: [SUCCESS]", "flow: a\n    namespace: other"),
    ],
    ids=["no loop", "when", "disabled", "an expression", "another namespace"],
)
def test_what_ends_a_chain_or_cannot_be_known_is_no_finding(tmp_path: Path, a: str, b: str) -> None:
    assert found(tmp_path, a=a, b=b) == []


def test_a_flow_that_is_off_closes_no_loop(tmp_path: Path) -> None:
    assert found(tmp_path, off="flow: b", b="flow: off") == []


def test_waiting_for_everybody_is_no_loop_by_itself(tmp_path: Path) -> None:
    assert found(tmp_path, a="states: [FAILED]") == []
    assert found(tmp_path, a="namespace: n") == []


def test_waiting_for_its_own_ends_alone_is_an_error(tmp_path: Path) -> None:
    [problem] = found(tmp_path, a="flow: a\n    namespace: n")
    assert problem.severity == "error"
    assert problem.message == 'trigger "t" waits for the ends of its own flow, which never start it'


def test_other_events_that_ends_are_count_too(tmp_path: Path) -> None:
    file = tmp_path / "any.hub.yaml"
    file.write_text(
        "id: any\nnamespace: n\ntriggers: [{id: t, type: event.matched, event: 'hub.*', source: /n/a}]\n"
        "tasks: [{id: a, type: log, message: x}]\n"
    )
    other = tmp_path / "a.hub.yaml"
    other.write_text(
        "id: a\nnamespace: n\ntriggers: [{id: t, type: flow.finished, flow: any}]\n"
        "tasks: [{id: a, type: log, message: x}]\n"
    )
    [problem] = lint_files([file, other], _REGISTRY, _FUNCTIONS).problems
    assert "n/a → n/any → n/a" in problem.message
    assert (problem.position.line, problem.position.column) == (3, 12)
