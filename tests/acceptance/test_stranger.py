"""A plugin project of somebody else: built, installed, and used in a flow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_process import HubProcess, hub_command

_PROJECT = Path(__file__).with_name("stranger")


def test_the_plugin_imports_only_the_plugin_api() -> None:
    source = (_PROJECT / "asynchub_weather" / "__init__.py").read_text()
    ours = [line for line in source.splitlines() if "hub" in line and line.startswith(("import", "from"))]
    assert all(line.startswith("from hub.plugin import") for line in ours)


def test_it_is_listed_with_its_types(stranger: dict[str, str], tmp_path: Path) -> None:
    done = hub_command("plugins", "list", "-o", "json", cwd=tmp_path, env=stranger)
    [report] = [one for one in json.loads(done.stdout) if one["name"] == "weather"]
    assert (report["distribution"], report["version"], report["state"]) == (
        "asynchub-weather",
        "1.2.3",
        "loaded",
    )
    assert report["types"] == ["weather.changes", "weather.diary", "weather.report", "weather.think"]


def test_a_wrong_field_of_it_is_found_before_it_runs(stranger: dict[str, str], tmp_path: Path) -> None:
    flow = tmp_path / "bad.hub.yaml"
    flow.write_text("id: a\nnamespace: b\ntasks:\n  - {id: x, type: weather.report, celsius: hot, plac: y}\n")
    done = hub_command("validate", str(flow), cwd=tmp_path, env=stranger)
    assert done.returncode == 3
    assert 'did you mean "place"?' in done.stdout
    assert "celsius: expected a number" in done.stdout


@pytest.fixture
def hub(stranger: dict[str, str], tmp_path: Path) -> Iterator[HubProcess]:
    (tmp_path / "flows").mkdir()
    shutil.copy(_PROJECT / "flow.hub.yaml", tmp_path / "flows")
    (tmp_path / "reading.json").write_text(json.dumps({"number": 1, "place": "Lyon", "celsius": 30}))
    (tmp_path / "hub.yaml").write_text(
        f"plugins: {{weather: {{diary: {json.dumps(str(tmp_path / 'diary'))}}}}}\n"
    )
    with HubProcess(tmp_path, flows=tmp_path / "flows", env=stranger) as running:
        yield running


def test_its_trigger_starts_a_flow_with_its_tasks(hub: HubProcess, tmp_path: Path) -> None:
    first = _next_execution(hub, set())
    assert hub.ended(first)["outputs"] == {"text": "LYON: 86 DEGREES feels warm", "warm": True}
    (tmp_path / "reading.new").write_text(json.dumps({"number": 2, "place": "Oslo", "celsius": 2}))
    (tmp_path / "reading.new").replace(tmp_path / "reading.json")
    second = _next_execution(hub, {first})
    assert hub.ended(second)["outputs"] == {"text": "OSLO: 35.6 DEGREES feels cold", "warm": False}
    assert len(hub.all_of("/api/v1/events")) == 2


def test_its_listener_is_told_and_shown(hub: HubProcess, tmp_path: Path) -> None:
    first = _next_execution(hub, set())
    hub.ended(first)
    [weather] = [one for one in hub.call("GET", "/api/v1/plugins").json["items"] if one["name"] == "weather"]
    [listener] = weather["listeners"]
    assert (listener["type"], listener["state"], listener["dropped"]) == ("weather.diary", "running", 0)
    metrics = hub.call("GET", "/metrics").raw.decode()
    assert 'hub_listener_dropped_total{listener="weather.diary"} 0.0' in metrics
    # what waited for it at the end of the hub was told too
    assert hub.stop() == 0
    assert (tmp_path / "diary").read_text() == f"event weather.changed {first}\nend {first} SUCCESS\n"


def _next_execution(hub: HubProcess, known: set[str]) -> str:
    import time

    until = time.monotonic() + 20
    while time.monotonic() < until:
        fresh: set[str] = {one["id"] for one in hub.all_of("/api/v1/executions")} - known
        if fresh:
            return fresh.pop()
        time.sleep(0.05)
    raise AssertionError("no execution was started")
