"""A pytest plugin that runs a project's contracts and nothing else, and writes down who keeps theirs.

``hub plugins check`` has pytest load it (``-p hub.testing.check.contracts``) and reads what it wrote.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPORT = "_HUB_CONTRACT_REPORT"
"""Names the file to write."""


class _Outcomes:
    """What became of each contract's tests."""

    def __init__(self) -> None:
        self.subjects: dict[str, str] = {}
        """The component that a test is about, by the test's id."""
        self.passed: dict[str, int] = {}
        self.failed: dict[str, list[str]] = {}

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Keep the tests of contracts."""
        kept = [item for item in items if contract_of(getattr(item, "cls", None)) is not None]
        others = [item for item in items if item not in kept]
        config.hook.pytest_deselected(items=others)
        items[:] = kept
        self.subjects = {item.nodeid: subject_of(item.cls) for item in kept}  # type: ignore[attr-defined]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Note how one ended."""
        subject = self.subjects[report.nodeid]
        if report.failed:
            words = str(getattr(report.longrepr, "reprcrash", None) or report.longrepr)
            name = report.nodeid.rpartition("::")[2]
            self.failed.setdefault(subject, []).append(f"{name}: {words.strip().splitlines()[-1][:500]}")
        elif report.passed and report.when == "call":
            self.passed[subject] = self.passed.get(subject, 0) + 1

    def pytest_sessionfinish(self) -> None:
        """Write it down."""
        about = {"passed": self.passed, "failed": self.failed}
        Path(os.environ[REPORT]).write_text(json.dumps(about), encoding="utf-8")


def pytest_configure(config: pytest.Config) -> None:
    """Begin to look, where somebody wants to read of it."""
    if REPORT in os.environ:
        config.pluginmanager.register(_Outcomes(), "hub contract outcomes")


def contract_of(case: type[Any] | None) -> type[Any] | None:
    """The contract suite that a class of tests subclasses."""
    for one in case.__mro__ if case is not None else ():
        if one.__module__.startswith("hub.testing.") and one.__name__.endswith("Contract"):
            return one
    return None


def subject_of(case: type[Any]) -> str:
    """The type of what a class of tests is about; its own name where that says nobody."""
    return next(_named(case), case.__name__)


def _named(case: type[Any]) -> Iterator[str]:
    for name, value in vars(case).items():
        component = getattr(value, "component", value)
        type_name = getattr(component, "type", None)
        if isinstance(component, type) and isinstance(type_name, str):
            yield type_name
        elif isinstance(value, str) and name in ("task", "trigger_type", "notifier_type"):
            yield value
