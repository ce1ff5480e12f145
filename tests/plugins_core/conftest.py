"""What several tests of the built-in plugins need."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.arrivals import Gates


@pytest.fixture
def gates(tmp_path: Path) -> Gates:
    return Gates(tmp_path)
