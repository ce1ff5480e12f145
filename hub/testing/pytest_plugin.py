"""The fixtures of the test kit, for every pytest in whose environment the hub is installed.

Found by the entry-point group ``pytest11``. Importing this module loads nothing else of the hub: the kit itself
is loaded by the first test that asks for one of its fixtures.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from hub.testing.clock import VirtualClock
    from hub.testing.kit import Kit
    from hub.testing.receiver import HttpReceiver

_LEAKS_ALLOWED = "leaks_allowed"


def pytest_configure(config: pytest.Config) -> None:
    """Make the kit's marker known."""
    config.addinivalue_line(
        "markers",
        f"{_LEAKS_ALLOWED}: run_task, run_flow and trigger take no notice of what is left behind",
    )


@pytest.fixture
def secrets() -> dict[str, str]:
    """Secrets by name, empty at first: what a test puts in here, ``secret('NAME')`` gives."""
    return {}


@pytest.fixture
def plugin_settings() -> dict[str, Any]:
    """The plugins' settings by name, as ``plugins:`` in ``hub.yaml`` has them; empty at first."""
    return {}


@pytest.fixture
def virtual_clock() -> VirtualClock:
    """A wall clock that stands still; with it no test waits for retries, pauses, polls or schedules."""
    from hub.testing.clock import VirtualClock

    return VirtualClock()


@pytest.fixture
def http_receiver() -> Iterator[HttpReceiver]:
    """A real HTTP server on a loopback port, which keeps what it is sent."""
    from hub.testing.receiver import HttpReceiver

    with HttpReceiver() as receiver:
        yield receiver


@pytest.fixture
def hub_kit(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    secrets: dict[str, str],
    plugin_settings: dict[str, Any],
) -> Kit:
    """The kit behind ``run_task``, ``run_flow`` and ``trigger``; ``hub_kit.hub()`` is a whole hub."""
    from hub.testing.kit import Kit

    has_clock = "virtual_clock" in request.fixturenames
    return Kit(
        tmp_path,
        secrets=secrets,
        plugins=plugin_settings,
        clock=request.getfixturevalue("virtual_clock") if has_clock else None,
        leaks_allowed=request.node.get_closest_marker(_LEAKS_ALLOWED) is not None,
    )


@pytest.fixture
def run_task(hub_kit: Kit) -> Any:
    """``await run_task("acme.greet", name="Ada")``: run one task to its end."""
    return hub_kit.run_task


@pytest.fixture
def run_flow(hub_kit: Kit) -> Any:
    """``await run_flow(yaml, {"name": "Ada"})``: run a flow to its end."""
    return hub_kit.run_flow


@pytest.fixture
def trigger(hub_kit: Kit) -> Any:
    """``async with trigger("acme.changes", …) as running``: run one trigger and see its events."""
    return hub_kit.trigger
