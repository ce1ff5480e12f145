"""Problems in the forms that people and programs read: text, JSON, GitHub, GitLab, Azure DevOps and SARIF.

Called by ``hub validate``. The forms of others name a file by its path in the repository, because that is what
GitHub, GitLab and Azure DevOps look up, wherever in it the command was called.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hub import __version__
from hub.config.text import render_problem
from hub.errors import Problem
from hub.model import jsontext

Sources = Mapping[str, str]


def repository_of(folder: Path) -> Path:
    """The root of the Git repository that holds ``folder``, else ``folder`` itself."""
    # a worktree and a submodule have a file of that name
    return next((one for one in (folder, *folder.parents) if (one / ".git").exists()), folder)


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


def _as_text(problems: Sequence[Problem], sources: Sources) -> str:
    return "\n\n".join(render_problem(problem, sources.get(problem.file or "")) for problem in problems)


def _as_json(problems: Sequence[Problem], sources: Sources) -> str:
    return jsontext.dumps([view(problem) for problem in problems])


def _as_github(problems: Sequence[Problem], sources: Sources) -> str:
    """Workflow commands, https://docs.github.com/actions/reference/workflow-commands-for-github-actions."""
    data = {"%": "%25", "\r": "%0D", "\n": "%0A"}
    place = {**data, ":": "%3A", ",": "%2C"}
    paths = _repository_paths(problems)
    return "\n".join(
        f"::{p.severity} file={_escaped(path, place)},line={p.position.line},col={p.position.column}"
        f"::{_escaped(_full(p), data)}"
        for p, path in zip(problems, paths, strict=True)
    )


def _as_gitlab(problems: Sequence[Problem], sources: Sources) -> str:
    """A Code Quality report, https://docs.gitlab.com/ci/testing/code_quality/."""
    paths = _repository_paths(problems)
    return jsontext.dumps(
        [
            {
                "description": _full(p),
                "check_name": _TOOL,
                "fingerprint": fingerprint,
                "severity": "major" if p.severity == "error" else "minor",
                "location": {"path": path, "lines": {"begin": p.position.line}},
            }
            for p, path, fingerprint in zip(problems, paths, _fingerprints(problems, paths), strict=True)
        ]
    )


def _as_azure(problems: Sequence[Problem], sources: Sources) -> str:
    """Logging commands, https://learn.microsoft.com/azure/devops/pipelines/scripts/logging-commands."""
    data = {"%": "%AZP25", "\r": "%0D", "\n": "%0A"}
    place = {**data, ";": "%3B", "]": "%5D"}
    paths = _repository_paths(problems)
    return "\n".join(
        f"##vso[task.logissue type={p.severity};sourcepath={_escaped(path, place)};"
        f"linenumber={p.position.line};columnnumber={p.position.column}]{_escaped(_full(p), data)}"
        for p, path in zip(problems, paths, strict=True)
    )


def _as_sarif(problems: Sequence[Problem], sources: Sources) -> str:
    """SARIF 2.1.0, https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html."""
    paths = _repository_paths(problems)
    return jsontext.dumps(
        {
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {"driver": {"name": _TOOL, "version": __version__, "rules": [_RULE]}},
                    "columnKind": "unicodeCodePoints",
                    "results": [
                        _result(p, path, fingerprint)
                        for p, path, fingerprint in zip(
                            problems, paths, _fingerprints(problems, paths), strict=True
                        )
                    ],
                }
            ],
        }
    )


_TOOL = "asynchub"
# GitHub's code scanning wants all three texts
_RULE = {
    "id": "flow",
    "shortDescription": {"text": "A flow file that cannot be used as it is."},
    "fullDescription": {
        "text": "The hub refuses a flow file with an error and warns of what is likely a mistake."
    },
    "help": {"text": "`hub validate` shows each finding with its place and a hint."},
}


def _result(problem: Problem, path: str, fingerprint: str) -> dict[str, Any]:
    column = problem.position.column
    region = {"startLine": problem.position.line, "startColumn": column, "endColumn": column + problem.length}
    return {
        "ruleId": _RULE["id"],
        "level": problem.severity,
        "message": {"text": _full(problem)},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": quote(path, errors="surrogateescape")},
                    "region": region,
                }
            },
        ],
        "partialFingerprints": {"asynchub/v1": fingerprint},
    }


def _full(problem: Problem) -> str:
    return problem.message + (f" ({problem.hint})" if problem.hint else "")


def _escaped(text: str, escapes: Mapping[str, str]) -> str:
    return "".join(escapes.get(char, char) for char in text)


def _repository_paths(problems: Sequence[Problem]) -> list[str]:
    here = Path.cwd()
    root = repository_of(here)
    return [_repository_path(here / (problem.file or ""), root) for problem in problems]


def _repository_path(path: Path, root: Path) -> str:
    # not resolved: a link in the repository is named as the repository names it
    plain = Path(os.path.normpath(path))
    return (plain.relative_to(root) if plain.is_relative_to(root) else plain).as_posix()


def _fingerprints(problems: Sequence[Problem], paths: Sequence[str]) -> list[str]:
    """What tells one finding from another: not its line, so that one that has moved is no new one."""
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for problem, path in zip(problems, paths, strict=True):
        seen[path, problem.message] += 1
        parts = (path, problem.message, str(seen[path, problem.message]))
        found.append(hashlib.sha256("\0".join(parts).encode()).hexdigest())
    return found


FORMATS: Mapping[str, Callable[[Sequence[Problem], Sources], str]] = {
    "text": _as_text,
    "json": _as_json,
    "github": _as_github,
    "gitlab": _as_gitlab,
    "azure": _as_azure,
    "sarif": _as_sarif,
}
"""By name: what writes problems, given the sources by file."""
