"""What ``hub validate --format`` writes is read back as its reader reads it."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import unquote

import pytest

from hub.config.reports import FORMATS
from hub.errors import Position, Problem
from tests.support.schemas import SARIF, schema_errors

_HOSTILE = "100% wrong, see: a;b] ::x\r\nand “more”"
_FILE = "my flows/50%, a;b]c:d.hub.yaml"
_PROBLEMS = (
    Problem(_HOSTILE, Position(3, 7), "did you mean x?", file=_FILE, length=4),
    Problem("same", Position(4, 1), file=_FILE),
    Problem("same", Position(9, 1), file=_FILE),
    Problem("careful", Position(1, 1), severity="warning", file="b.hub.yaml"),
)
_FULL = f"{_HOSTILE} (did you mean x?)"


@pytest.fixture(autouse=True)
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / ".git").mkdir()
    (tmp_path / "deploy").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _written(format: str, problems: tuple[Problem, ...] = _PROBLEMS) -> str:
    return FORMATS[format](problems, {})


def _read_command(
    line: str, escapes: dict[str, str], *, open: str, close: str, comma: str
) -> tuple[str, dict[str, str], str]:
    """A line as the runners of GitHub and Azure read it: name, properties, message, each unescaped."""

    def unescaped(text: str) -> str:
        # the percent sign comes last, or it would be read twice
        for code, char in escapes.items():
            text = text.replace(code, char)
        return text

    assert line.startswith(open)
    command, end, message = line[len(open) :].partition(close)
    assert end
    name, _, rest = command.partition(" ")
    properties = dict(one.split("=", 1) for one in rest.split(comma) if one)
    return name, {key: unescaped(value) for key, value in properties.items()}, unescaped(message)


def test_github_reads_each_annotation_with_its_place() -> None:
    escapes = {"%0D": "\r", "%0A": "\n", "%3A": ":", "%2C": ",", "%25": "%"}
    lines = _written("github").split("\n")
    assert len(lines) == len(_PROBLEMS)
    assert _read_command(lines[0], escapes, open="::", close="::", comma=",") == (
        "error", {"file": _FILE, "line": "3", "col": "7"}, _FULL,
    )  # fmt: skip
    assert lines[3] == "::warning file=b.hub.yaml,line=1,col=1::careful"


def test_azure_reads_each_issue_with_its_place() -> None:
    escapes = {"%3B": ";", "%0D": "\r", "%0A": "\n", "%5D": "]", "%AZP25": "%"}
    lines = _written("azure").split("\n")
    assert len(lines) == len(_PROBLEMS)
    name, properties, message = _read_command(lines[0], escapes, open="##vso[", close="]", comma=";")
    assert (name, message) == ("task.logissue", _FULL)
    assert properties == {"type": "error", "sourcepath": _FILE, "linenumber": "3", "columnnumber": "7"}
    assert "type=warning;" in lines[3]


def test_gitlab_reads_a_code_quality_report_whose_fingerprints_are_unique() -> None:
    report = json.loads(_written("gitlab"))
    assert [one["severity"] for one in report] == ["major", "major", "major", "minor"]
    assert [one["location"] for one in report][:2] == [
        {"path": _FILE, "lines": {"begin": 3}},
        {"path": _FILE, "lines": {"begin": 4}},
    ]
    assert report[0]["description"] == _FULL
    assert all(one["check_name"] for one in report)
    assert len({one["fingerprint"] for one in report}) == len(_PROBLEMS)
    assert json.loads(_written("gitlab", ())) == []


def test_a_finding_that_moves_keeps_its_fingerprint() -> None:
    moved = tuple(
        Problem(p.message, Position(p.position.line + 5, 2), p.hint, p.severity, p.file) for p in _PROBLEMS
    )
    before, after = json.loads(_written("gitlab")), json.loads(_written("gitlab", moved))
    assert [one["fingerprint"] for one in before] == [one["fingerprint"] for one in after]


@pytest.mark.parametrize("problems", [_PROBLEMS, ()], ids=["findings", "none"])
def test_sarif_holds_to_its_schema(tmp_path: Path, problems: tuple[Problem, ...]) -> None:
    path = tmp_path / "report.sarif"
    path.write_text(_written("sarif", problems))
    assert schema_errors(path, file=SARIF) == ""
    [run] = json.loads(path.read_text())["runs"]
    rules = {rule["id"] for rule in run["tool"]["driver"]["rules"]}
    assert len(run["results"]) == len(problems)
    for result, problem in zip(run["results"], problems, strict=True):
        assert result["ruleId"] in rules
        assert result["level"] == problem.severity
        place = result["locations"][0]["physicalLocation"]
        assert unquote(place["artifactLocation"]["uri"]) == problem.file
        assert place["region"]["startLine"] == problem.position.line
        assert place["region"]["endColumn"] == problem.position.column + problem.length


def test_the_sarif_schema_refuses_what_is_not_sarif(tmp_path: Path) -> None:
    path = tmp_path / "report.sarif"
    path.write_text(_written("sarif").replace('"startLine":3', '"startLine":0'))
    assert "startLine" in schema_errors(path, file=SARIF)


@pytest.mark.parametrize("format", ["github", "gitlab", "azure", "sarif"])
def test_a_file_is_named_by_its_path_in_the_repository(
    repository: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    monkeypatch.chdir(repository / "deploy")
    for given in (
        "../flows/a.hub.yaml",
        str(repository / "flows" / "a.hub.yaml"),
        "./../deploy/../flows/a.hub.yaml",
    ):
        text = _written(format, (Problem("x", Position(1, 1), file=given),))
        assert "flows/a.hub.yaml" in text
        assert "../" not in text
        assert str(repository) not in text


def test_people_and_programs_read_the_path_as_it_was_given() -> None:
    problem = Problem("x", Position(1, 1), file="../flows/a.hub.yaml")
    assert _written("text", (problem,)).startswith("../flows/a.hub.yaml:1:1  error: x")
    assert json.loads(_written("json", (problem,)))[0]["file"] == "../flows/a.hub.yaml"
