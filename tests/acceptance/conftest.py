"""Real hubs in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess

FLOWS = Path(__file__).with_name("flows")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub over the flows beside this file, for the tests of one module."""
    data = tmp_path_factory.mktemp("hub")
    env = {"HUB_SECRET_GITHUB": "it's a secret", "HUB_SECRET_PLAIN": "plain-secret"}
    with HubProcess(data, flows=FLOWS, env=env) as running:
        yield running
