"""Problems as people and programs read them: with a caret, or as JSON, GitHub, GitLab, Azure and SARIF."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from hub.errors import Problem
from hub.model import jsontext

_WIDEST = 160


def render_problem(problem: Problem, source: str | None) -> str:
    """A problem with its line and a caret under the place."""
    where = f"{problem.file or '<text>'}:{problem.position.line}:{problem.position.column}"
    parts = [f"{where}  {problem.severity}: {problem.message}"]
    lines = _lines(source or "")
    if 0 < problem.position.line <= len(lines):
        line = lines[problem.position.line - 1].replace("\t", " ")
        start = problem.position.column - 1
        shift = max(start - _WIDEST // 2, 0) if len(line) > _WIDEST else 0
        shown = line[shift : shift + _WIDEST]
        number = str(problem.position.line)
        width = max(min(problem.length, len(shown) - (start - shift)), 1)
        parts.append(f"  {number} | {shown}")
        parts.append(f"  {' ' * len(number)} | {' ' * (start - shift)}{'^' * width}")
    if problem.hint:
        parts.append(f"    hint: {problem.hint}")
    return "\n".join(parts)


@lru_cache(maxsize=2)
def _lines(source: str) -> list[str]:
    """The lines as editors count them, cut once for all problems of a file."""
    return re.split(r"\r\n|\n|\r", source) if source else []


def _as_json(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    return jsontext.dumps([view(problem) for problem in problems])


def view(problem: Problem) -> dict[str, Any]:
    """A problem as plain data."""
    return {
        "file": problem.file,
        "line": problem.position.line,
        "column": problem.position.column,
        "severity": problem.severity,
        "message": problem.message,
        "hint": problem.hint,
    }


def _as_text(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    return "\n\n".join(render_problem(problem, sources.get(problem.file or "")) for problem in problems)


def _full(problem: Problem) -> str:
    return problem.message + (f" ({problem.hint})" if problem.hint else "")


def _as_github(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """Workflow commands, https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""

    def escape(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    return "\n".join(
        f"::{p.severity} file={escape(p.file or '').replace(',', '%2C').replace(':', '%3A')},"
        f"line={p.position.line},col={p.position.column}::{escape(_full(p))}"
        for p in problems
    )


def _as_gitlab(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """A Code Quality report, https://docs.gitlab.com/ci/testing/code_quality/."""
    return jsontext.dumps(
        [
            {
                "description": _full(p),
                "check_name": "asynchub",
                "fingerprint": hashlib.sha256(
                    f"{p.file}:{p.position.line}:{p.position.column}:{p.message}".encode()
                ).hexdigest(),
                "severity": "major" if p.severity == "error" else "minor",
                "location": {"path": p.file, "lines": {"begin": p.position.line}},
            }
            for p in problems
        ]
    )


def _as_azure(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """Logging commands, https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands."""

    def escape(text: str) -> str:
        return text.replace("%", "%AZP25").replace("\r", "%0D").replace("\n", "%0A")

    return "\n".join(
        f"##vso[task.logissue type={p.severity};sourcepath={escape(p.file or '')};"
        f"linenumber={p.position.line};columnnumber={p.position.column};]{escape(_full(p))}"
        for p in problems
    )


def _as_sarif(problems: Sequence[Problem], sources: Mapping[str, str]) -> str:
    """SARIF 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""
    return jsontext.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": {"name": "asynchub", "rules": [{"id": "flow"}]}},
                    "results": [
                        {
                            "ruleId": "flow",
                            "level": p.severity,
                            "message": {"text": _full(p)},
                            "locations": [
                                {
                                    "physicalLocation": {
                                        "artifactLocation": {"uri": p.file},
                                        "region": {
                                            "startLine": p.position.line,
                                            "startColumn": p.position.column,
                                        },
                                    }
                                }
                            ],
                        }
                        for p in problems
                    ],
                }
            ],
        }
    )


FORMATS: Mapping[str, Callable[[Sequence[Problem], Mapping[str, str]], str]] = {
    "text": _as_text,
    "json": _as_json,
    "github": _as_github,
    "gitlab": _as_gitlab,
    "azure": _as_azure,
    "sarif": _as_sarif,
}
"""By name: what writes problems, given the sources by file."""
