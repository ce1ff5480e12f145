"""The quickstart, followed to the letter."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.support.hub_process import HubProcess, hub_command

PAGE = Path(__file__).parent.parent.parent / "docs" / "quickstart.md"


def test_its_flow_is_valid_runs_and_is_started_by_the_printed_line(tmp_path: Path) -> None:
    page = PAGE.read_text()
    name = re.search(r"Write `([^`]+)`", page)
    source = re.search(r"```yaml\n(.*?)```", page, re.S)
    assert name
    assert source
    path = tmp_path / name[1]
    path.parent.mkdir()
    path.write_text(source[1])
    for command in re.findall(r"`hub (validate [^`]+|run [^`]+)`", page):
        done = hub_command(*command.split(), cwd=tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
    with HubProcess(tmp_path, flows=tmp_path / "flows") as hub:
        listed = hub_command("triggers", "list", cwd=tmp_path).stdout
        curl = next(line for line in listed.splitlines() if line.startswith("curl "))
        answered = subprocess.run(curl, shell=True, capture_output=True, text=True, check=True).stdout
        [execution] = json.loads(answered)["executionIds"]
        assert hub.ended(execution)["state"] == "SUCCESS"
        assert "HELLO world" in hub_command("executions", "logs", "last", "-f", cwd=tmp_path).stdout
