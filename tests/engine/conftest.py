"""A hub in one process, on each storage where it matters."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.testing import Harness, harness
from tests.support.stage import Stage


@pytest.fixture(params=["memory:", "sqlite"])
async def hub(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Harness]:
    url = f"sqlite:///{tmp_path / 'hub.db'}" if request.param == "sqlite" else request.param
    async with harness(tmp_path, storage=url, environ={"HUB_SECRET_TOKEN": "s3cr3t-value"}) as hub:
        yield hub


@pytest.fixture
def stage() -> Stage:
    return Stage()
