"""Plugins of others that are broken, in real commands: named, with what to do, and the hub goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.hub_process import HubProcess, hub_command
from tests.support.plugins import install

_ENDING = "import sys\nsys.exit(3)\n"
_TALKING = """
    import sys
    from hub.plugin import SecretSource, hookimpl

    print("hello")
    print("world", file=sys.stdout)

    class Source(SecretSource):
        type = "talking"

        def __init__(self, environ, folder, settings):
            print("made")
            raise RuntimeError("no vault")

        async def get(self, name):
            return None

    @hookimpl
    def register_secret_sources():
        print("asked")
        return [Source]
"""


def listed(tmp_path: Path, env: dict[str, str]) -> tuple[dict[str, Any], str]:
    """What ``hub plugins list`` says of each plugin, and what it said on stderr."""
    done = hub_command("plugins", "list", "-o", "json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}, done.stderr


def test_a_plugin_that_ends_the_process_is_listed_and_the_hub_starts(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "ending", _ENDING)
    report = listed(tmp_path, env)[0]["ending"]
    assert report["state"] == "failed"
    assert "SystemExit: 3" in report["error"]
    assert "plugins: {ending: {enabled: false}}" in report["error"]
    with HubProcess(tmp_path, env=env) as hub:
        plugins = hub.call("GET", "/api/v1/plugins").json["items"]
        assert {one["state"] for one in plugins if one["name"] == "ending"} == {"failed"}


def test_a_plugin_that_prints_leaves_the_data_alone(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "talking", _TALKING)
    reports, said = listed(tmp_path, env)
    assert [line for line in said.splitlines() if line.startswith("plugin")] == [
        f'plugin "talking" says: {word}' for word in ("hello", "world", "asked", "made")
    ]
    report = reports["talking"]
    assert (report["state"], report["types"]) == ("partly", ["talking"])
    assert report["error"] == 'secret source "talking" cannot be used: RuntimeError: no vault'


def test_a_plugin_that_is_switched_off_is_neither_imported_nor_in_the_way(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "ending", _ENDING)
    (tmp_path / "hub.yaml").write_text("plugins: {ending: {enabled: false}}\n")
    report = listed(tmp_path, env)[0]["ending"]
    assert (report["state"], report["version"]) == ("off", "1.0")
    assert "plugins.ending.enabled is false" in report["error"]


_WITH_SETTINGS = """
    from pydantic import BaseModel
    from hub.plugin import hookimpl

    class Settings(BaseModel):
        api_url: str = "https://example.test"

    @hookimpl
    def settings_model():
        return Settings
"""


def test_a_mistake_in_a_plugins_settings_stops_the_start_by_its_place(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "acme", _WITH_SETTINGS)
    (tmp_path / "hub.yaml").write_text("plugins:\n  acme: {apiUrk: x}\n")
    done = hub_command("serve", "--port", "0", cwd=tmp_path, env=env)
    assert done.returncode == 3
    assert "hub.yaml:2:10  error: plugins.acme.apiUrk: unknown setting" in done.stderr
    assert 'did you mean "apiUrl"?' in done.stderr
    assert listed(tmp_path, env)[0]["acme"]["state"] == "loaded"


_WITH_A_TASK = """
    from hub.plugin import Task, hookimpl

    class Do(Task):
        type = "acme.do"

        async def run(self, ctx):
            return {}

    @hookimpl
    def register_tasks():
        return [Do]
"""


def test_a_flow_whose_plugin_is_gone_stops_the_start_until_it_is_meant(tmp_path: Path) -> None:
    env = install(tmp_path / "site", "acme", _WITH_A_TASK)
    with HubProcess(tmp_path, env=env) as hub:
        put = hub.call("PUT", "/api/v1/flows/t/f", b"id: f\nnamespace: t\ntasks: [{id: a, type: acme.do}]\n")
        assert put.status == 201
    done = hub_command("serve", "--port", "0", cwd=tmp_path)
    assert done.returncode == 3
    assert 'flow t/f needs the task type "acme.do": no plugin "acme" is installed' in done.stderr
    (tmp_path / "hub.yaml").write_text("plugins: {acme: {enabled: false}}\n")
    with HubProcess(tmp_path) as hub:
        [broken] = hub.call("GET", "/api/v1/flows").json["broken"]
        assert broken["file"] == "t/f"
        assert 'plugin "acme" is switched off' in broken["problems"][0]["message"]


_STAYING = """
    import asyncio, pathlib, time
    from hub.plugin import Listener, hookimpl

    class Stays(Listener):
        type = "staying"

        async def run(self, ctx, news):
            pathlib.Path("running").touch()
            await asyncio.to_thread(time.sleep, 3600)

    class Blocks(Listener):
        type = "staying.block"

        async def run(self, ctx, news):
            time.sleep(3600)

    @hookimpl
    def register_listeners():
        return [Stays, Blocks]
"""


def test_listeners_that_never_end_do_not_hold_up_the_end_of_the_hub(tmp_path: Path) -> None:
    with HubProcess(tmp_path, env=install(tmp_path / "site", "staying", _STAYING)) as hub:
        assert hub.call("GET", "/health/ready").status == 200
        assert hub.stop(timeout=20) == 0
    assert (tmp_path / "running").exists()
    assert "left behind" in hub.log.read_text()
