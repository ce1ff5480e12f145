"""Flow folders that cannot be read, are not there yet, or are none."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from pathlib import Path

from tests.support.hub_process import HubProcess, hub_command
from tests.support.ordinary import START

_FLOW = "id: {id}\nnamespace: f\ntasks: [{{id: a, type: log, message: x}}]\n"


def until(check: Callable[[], object]) -> None:
    end = time.monotonic() + 20
    while not check():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_cannot_be_read_is_shown_and_taken_once_it_can(tmp_path: Path) -> None:
    flows = tmp_path / "flows"
    (flows / "inner").mkdir(parents=True)
    (flows / "open.hub.yaml").write_text(_FLOW.format(id="open"))
    locked = flows / "locked.hub.yaml"
    locked.write_text(_FLOW.format(id="locked"))
    (flows / "inner" / "deep.hub.yaml").write_text(_FLOW.format(id="deep"))
    locked.chmod(0)
    (flows / "inner").chmod(0)
    try:
        with HubProcess(tmp_path, flows=flows, start=START) as hub:
            listed = hub_command("flows", "list", "-o", "name", cwd=tmp_path)
            assert listed.stdout == "f/open\n"
            assert f"{locked}:1:1  cannot be read: Permission denied" in listed.stderr
            assert f"{flows / 'inner'}:1:1  the folder cannot be read: Permission denied" in listed.stderr
            locked.chmod(0o600)
            (flows / "inner").chmod(0o700)
            until(lambda: len(hub.call("GET", "/api/v1/flows").json["items"]) == 3)
            assert hub.call("GET", "/api/v1/flows").json["broken"] == []
            (flows / "inner").chmod(0)
            until(lambda: hub.call("GET", "/api/v1/flows").json["broken"])
            # what cannot be seen is not gone
            assert len(hub.call("GET", "/api/v1/flows").json["items"]) == 3
            assert hub.stop() == 0
    finally:
        (flows / "inner").chmod(0o700)


def _has_flows(hub: HubProcess) -> bool:
    return bool(hub.call("GET", "/api/v1/flows").json["items"])


def test_a_folder_that_is_not_there_yet_is_said_served_and_watched(tmp_path: Path) -> None:
    flows = tmp_path / "later"
    (tmp_path / "hub.yaml").write_text("flows: [also]\n")
    for given, name in ((flows, "later"), (None, "also")):
        with HubProcess(tmp_path, flows=given) as hub:
            assert "flow folder does not exist" in hub.log.read_text()
            (tmp_path / name).mkdir()
            (tmp_path / name / "a.hub.yaml").write_text(_FLOW.format(id=name))
            until(functools.partial(_has_flows, hub))
