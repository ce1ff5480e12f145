"""A plugin's whole life beside a hub that is never idle: begun, tested, built, installed, used, upgraded, downgraded, gone.

One script, as an author and an operator would type it. All the while senders call the hub's webhooks; none is
refused, and no execution fails.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hub.testing import HttpReceiver
from tests.support.hub_process import HubProcess
from tests.support.installed import also, environment_of
from tests.support.webhook_load import failed, webhook_load

_OTHERS = """id: others
namespace: demo
triggers: [{id: hook, type: webhook, key: k}]
tasks: [{id: say, type: log, message: "{{ trigger.body.n }}"}]
"""
_USING = """id: using
namespace: demo
triggers: [{id: hook, type: webhook, key: k, wait: true}]
tasks:
  - {id: send, type: acme.send, channel: news, text: "{{ acme_short('number ' ~ trigger.body.n, 8) }}"}
outputs: [{id: id, value: "{{ outputs.send.messageId }}"}]
"""
_OTHERS_AT, _USING_AT = "/api/v1/webhooks/demo/others/k", "/api/v1/webhooks/demo/using/k"


@dataclass
class Terminal:
    """Where commands are typed: an environment of its own, and a folder."""

    commands: Path
    folder: Path
    env: Mapping[str, str] = field(default_factory=dict)

    async def type(self, *words: str | Path, code: int = 0) -> str:
        """Run a command; answers all it said."""
        first = self.commands / str(words[0])
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PY"))}
        process = await asyncio.create_subprocess_exec(
            str(first),
            *map(str, words[1:]),
            cwd=self.folder,
            env={**inherited, **self.env},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == code, f"{words}: {process.returncode}\n{said.decode()[-4000:]}"
        return said.decode()

    def built(self, project: str, version: str) -> Path:
        """The wheel of a version of the project."""
        about = self.folder / project / "pyproject.toml"
        lines = [
            f'version = "{version}"' if line.startswith("version = ") else line
            for line in about.read_text().splitlines()
        ]
        about.write_text("\n".join(lines) + "\n")
        dist = self.folder / "dist"
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
        subprocess.run(build, cwd=self.folder / project, check=True, capture_output=True)
        [wheel] = dist.glob(f"*-{version}-*.whl")
        return wheel


@pytest.mark.timeout(400)
@pytest.mark.parametrize("tool", ["uv", pytest.param("pip", marks=pytest.mark.faults)])
async def test_a_plugins_life_beside_a_busy_hub(
    tmp_path: Path, http_receiver: HttpReceiver, tool: str
) -> None:
    commands, env = environment_of(tmp_path, tool)
    also(commands, "pytest", "pytest-asyncio")
    author = Terminal(commands, tmp_path, env)
    http_receiver.answer(201, {"id": "m1"})
    data = tmp_path / "data"
    flows = data / "flows"
    flows.mkdir(parents=True)
    (flows / "others.hub.yaml").write_text(_OTHERS)
    start = [str(commands / "hub")]
    secret = {"HUB_SECRET_ACME_TOKEN": "t"}
    with HubProcess(data, flows=flows, start=start, env=secret) as hub:
        operator = Terminal(commands, data, env)

        async def reload(code: int = 0) -> str:
            return await operator.type("hub", "reload", "--data", data, code=code)

        async with webhook_load(hub.port, [_OTHERS_AT], pause=0.02) as load:
            # begun, tested, built
            assert "acme" in await author.type("hub", "plugins", "new", "acme", "--with", "task,function")
            first = author.built("asynchub-acme", "0.1.0")

            # installed: its tests pass, and the running hub takes it up with its settings
            said = await operator.type("hub", "plugins", "install", first)
            assert f"{tool}: asynchub-acme 0.1.0" in said
            assert "acme 0.1.0 loaded: acme.send" in said
            project = tmp_path / "asynchub-acme"
            tests = [
                f"--rootdir={project}",
                f"--config-file={project / 'pyproject.toml'}",
                str(project / "tests"),
            ]
            told = await operator.type(
                "python",
                "-m",
                "pytest",
                "-q",
                "-p",
                "no:cacheprovider",
                *tests,
                tmp_path / "asynchub-acme/tests",
            )
            assert " passed" in told
            (data / "hub.yaml").write_text(f"plugins: {{acme: {{apiUrl: '{http_receiver.url}'}}}}\n")
            await reload()
            (flows / "using.hub.yaml").write_text(_USING)
            await _until_flow(hub, "using")

            async with webhook_load(hub.port, [_USING_AT], pause=0.02) as using:
                await using.more(10)
                assert _last_mark(http_receiver) == "…"

                # upgraded
                functions = project / "asynchub_acme" / "functions.py"
                functions.write_text(functions.read_text().replace("…", "~"))
                second = author.built("asynchub-acme", "0.2.0")
                assert "0.1.0 → 0.2.0" in await operator.type("hub", "plugins", "install", second)
                await using.more(10)
                assert _last_mark(http_receiver) == "…", "a running hub goes on with what it has"
                await reload()
                await using.more(10)
                assert _last_mark(http_receiver) == "~"

                # downgraded
                assert "0.2.0 → 0.1.0" in await operator.type("hub", "plugins", "install", first)
                await reload()
                await using.more(10)
                assert _last_mark(http_receiver) == "…"

                # taken out while it is used: no new process takes over
                await operator.type("hub", "plugins", "uninstall", "acme")
                (data / "hub.yaml").unlink()
                assert "acme.send" in await reload(code=7)
                await using.more(10)
            (flows / "using.hub.yaml").unlink()
            await _until_flow(hub, "using", is_there=False)
            await reload()
            await load.more(20)
        assert "acme" not in await operator.type("hub", "plugins", "list")
        assert load.failures == using.failures == []
        assert set(load.statuses) == {(_OTHERS_AT, 202)}
        assert set(using.statuses) == {(_USING_AT, 200)}
        executions = _ended(hub)
        assert failed(executions) == []
        assert len(executions) == load.count + using.count
        assert {one["revision"] for one in executions} == {1}
        assert hub.stop() == 0


def _ended(hub: HubProcess) -> Sequence[dict[str, object]]:
    for one in hub.all_of("/api/v1/executions"):
        if one["state"] in ("CREATED", "RUNNING"):
            hub.ended(one["id"])
    return hub.all_of("/api/v1/executions")


def _last_mark(service: HttpReceiver) -> str:
    """The mark at the end of the last message: it tells the plugin's version."""
    text: str = service.requests[-1].json["text"]
    return text[-1]


async def _until_flow(hub: HubProcess, name: str, *, is_there: bool = True) -> None:
    path = f"/api/v1/flows/demo/{name}"
    async with asyncio.timeout(30):
        while ((await asyncio.to_thread(hub.call, "GET", path)).status == 200) is not is_there:
            await asyncio.sleep(0.1)
