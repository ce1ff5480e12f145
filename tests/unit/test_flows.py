"""Flow files: what is read as it is written, what is refused, and what no file may do to the hub."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from pydantic import field_validator

from hub.config.flows import LoadedFlow, load_flow
from hub.config.lint import lint_files
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
