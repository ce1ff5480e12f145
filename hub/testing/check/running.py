"""Run a check in processes of its own, each with a time limit, and put together what they say."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from hub.registry.project import read_project
from hub.testing.check.findings import Finding

_LONGEST_LOADING = 30.0
"""Seconds that loading and looking may take together."""
_LONGEST_CONTRACTS = 900.0
_REPORT = "_HUB_CONTRACT_REPORT"


def check_project(folder: Path, *, patience: float = _LONGEST_LOADING) -> list[Finding]:
    """Check the plugins of a project. Raises ``InvalidInput`` where the folder is none."""
    project = read_project(folder)
    name = ", ".join(point.name for point in project.points)
    findings, components = _looked_at(name, patience, "project", str(folder))
    if any(one.check == "loads" and one.level == "error" for one in findings):
        return findings
    return [*findings, *_contracts(name, project.name, folder, components)]


def check_installed(names: Sequence[str], *, patience: float = _LONGEST_LOADING) -> list[Finding]:
    """Check installed plugins, each in a process of its own; their tests are not there to be run."""
    return [one for name in names for one in _looked_at(name, patience, "installed", name)[0]]


def _looked_at(name: str, patience: float, *arguments: str) -> tuple[list[Finding], list[str]]:
    command = [sys.executable, "-P", "-m", "hub.testing.check.loading", *arguments]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves
            command, capture_output=True, text=True, timeout=patience, check=False
        )
        said = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        message = f"it is not loaded after {patience:g} s: nothing may be waited for at import"
        return [Finding(name, "loads", "error", message)], []
    except ValueError:
        last = done.stderr.strip().rpartition("\n")[2] or "without a word"
        message = f"it ends the process when it is loaded (exit code {done.returncode}): {last}"
        return [Finding(name, "loads", "error", message)], []
    findings = [Finding(**one) for one in said["findings"]]
    return findings, [one for some in said["components"].values() for one in some]


def _contracts(name: str, distribution: str, folder: Path, components: Sequence[str]) -> Iterator[Finding]:
    """Which components keep their contracts, as the project's tests have it."""
    reason = _why_not(distribution, folder)
    if reason is not None:
        yield Finding(name, "contracts", "warning", f"not run: {reason}")
        return
    told = _run_contracts(folder)
    if isinstance(told, str):
        yield Finding(name, "contracts", "error", told)
        return
    for subject, failures in told["failed"].items():
        yield from (Finding(name, "contracts", "error", f"{subject}: {one}") for one in failures)
    for subject, count in told["passed"].items():
        if subject not in told["failed"]:
            yield Finding(name, "contracts", "ok", f"{subject} keeps its contract ({count} tests)")
    for component in components:
        if component not in told["passed"] and component not in told["failed"]:
            message = f"{component} has no contract test: see hub.testing.TaskContract and TriggerContract"
            yield Finding(name, "contracts", "warning", message)


def _why_not(distribution: str, folder: Path) -> str | None:
    if not (folder / "tests").is_dir():
        return "the project has no folder tests"
    if importlib.util.find_spec("pytest") is None:
        return "pytest is not installed here"
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return f"{distribution} is not installed here: pip install -e '{folder}'"
    return None


def _run_contracts(folder: Path) -> Mapping[str, Any] | str:
    with tempfile.TemporaryDirectory() as place:
        report = Path(place) / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "hub.testing.check.contracts"]
        command += ["-p", "no:cacheprovider", "tests"]
        try:
            done = subprocess.run(  # noqa: S603 - the project's own tests
                command,
                cwd=folder,
                env={**os.environ, _REPORT: str(report)},
                capture_output=True,
                text=True,
                timeout=_LONGEST_CONTRACTS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"the tests were not through after {_LONGEST_CONTRACTS:g} s"
        # 0 and 1: run, well or not; 5: there was none to run
        if done.returncode not in (0, 1, 5) or not report.exists():
            return f"the tests cannot be run: {(done.stdout + done.stderr).strip()[-1000:]}"
        found: Mapping[str, Any] = json.loads(report.read_text(encoding="utf-8"))
        return found
