"""The kit costs projects nothing that have the hub installed and do not ask for it."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points

import hub.testing


def test_pytest_finds_the_plugin() -> None:
    [found] = [one for one in entry_points(group="pytest11") if one.name == "asynchub"]
    assert found.value == "hub.testing.pytest_plugin"


def test_nothing_else_of_the_hub_is_loaded_before_a_fixture_is_asked_for() -> None:
    code = """
import sys, pytest
before = set(sys.modules)
import hub.testing.pytest_plugin
print(*sorted(set(sys.modules) - before))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["hub", "hub.testing", "hub.testing.pytest_plugin"]


def test_every_name_of_the_kit_is_there() -> None:
    assert {name for name in hub.testing.__all__ if getattr(hub.testing, name) is None} == set()
    assert sorted(hub.testing.__all__) == sorted(hub.testing._PLACES)
