"""The pages for who publishes, upgrades and reloads: what they tell to type works, what they say of numbers is so."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from hub.plugin import API_VERSION
from tests.support.hub_process import HubProcess
from tests.support.installed import ROOT


def blocks(page: str) -> list[tuple[str, str]]:
    """Each block to type, and each of what is said then."""
    return re.findall(r"```(sh|text)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.S)


def typed(text: str, folder: Path) -> str:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", text], cwd=folder, env=env, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, f"$ {text}\n{done.stdout}{done.stderr}"
    return done.stdout


def test_the_publishing_page_works_from_an_empty_folder(tmp_path: Path) -> None:
    [(_, check), (_, said), (_, build), _] = blocks("plugins/publishing.md")
    found = typed(check, tmp_path)
    for line in said.splitlines():
        assert line in found
    typed(build, tmp_path)
    names = sorted(path.name for path in (tmp_path / "asynchub-matrix" / "dist").iterdir())
    assert names == ["asynchub_matrix-0.1.0-py3-none-any.whl", "asynchub_matrix-0.1.0.tar.gz"]


def test_the_versions_page_names_the_plugin_api_of_now() -> None:
    page = (ROOT / "docs" / "plugins" / "versioning.md").read_text()
    assert f"It has one whole number, {API_VERSION} now." in page
    assert f"`HUB_API = {API_VERSION}`" in page


def test_the_reload_page_works_beside_a_running_hub(tmp_path: Path) -> None:
    (_, reload) = blocks("how-to/reload.md")[0]
    with HubProcess(tmp_path) as hub:
        assert "has taken over after" in typed(reload, tmp_path)
        found = hub.call("GET", "/api/v1/reload").json
        assert found["number"] == 1
        page = (ROOT / "docs" / "how-to" / "reload.md").read_text()
        assert all(f"`{name}`" in page for name in ("number", "state", "pid", "version", "seconds"))
