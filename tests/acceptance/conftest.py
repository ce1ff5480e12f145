"""Real hubs in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess

FLOWS = Path(__file__).with_name("flows")
_STRANGER = Path(__file__).with_name("stranger")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub over the flows beside this file, for the tests of one module."""
    data = tmp_path_factory.mktemp("hub")
    env = {"HUB_SECRET_GITHUB": "it's a secret", "HUB_SECRET_PLAIN": "plain-secret"}
    with HubProcess(data, flows=FLOWS, env=env) as running:
        yield running


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment where the stranger's plugin is installed: its wheel on the path, as it is unpacked."""
    folder = tmp_path_factory.mktemp("stranger")
    project = shutil.copytree(_STRANGER, folder / "project")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel"],
        cwd=project,
        check=True,
        capture_output=True,
    )
    [wheel] = (project / "dist").glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return {"PYTHONPATH": os.pathsep.join([str(folder / "site"), os.environ.get("PYTHONPATH", "")])}
