"""The blueprint file-drop, used, served and fed as its page says."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from watchfiles import watch

from tests.support.hub_process import HubProcess, hub_command

ROOT = Path(__file__).parent.parent.parent


def until(folder: Path, holds: Callable[[], bool]) -> None:
    """Wait until something about a folder is true."""
    if holds():
        return
    for _ in watch(folder, step=10, debounce=50, rust_timeout=500, yield_on_timeout=True):
        if holds():
            return


def test_the_blueprint_reads_a_dropped_file_row_by_row(tmp_path: Path) -> None:
    assert hub_command("init", ".", cwd=tmp_path).returncode == 0
    assert hub_command("blueprints", "use", "file-drop", cwd=tmp_path).returncode == 0
    page = (ROOT / "blueprints" / "file-drop" / "README.md").read_text()
    [drop] = re.findall(r"Drop a file: `(.*?)`", page)
    with HubProcess(tmp_path, flows=tmp_path / "flows") as hub:
        until(tmp_path, (tmp_path / "inbox").is_dir)
        subprocess.run(drop, shell=True, cwd=tmp_path, check=True)
        until(tmp_path, (tmp_path / "done" / "orders.csv").exists)
        [execution] = hub.all_of("/api/v1/executions?namespace=demo.files")
        assert execution["state"] == "SUCCESS"
        assert hub.call("GET", f"/api/v1/executions/{execution['id']}").json["outputs"] == {"count": 2}
        (tmp_path / "inbox" / "bad.csv").write_text("article,quantity\nbolts\n")
        until(tmp_path, (tmp_path / "failed" / "bad.csv").exists)
    assert (tmp_path / "reports" / "orders.csv.txt").read_text() == "orders.csv: 2 orders\n"
