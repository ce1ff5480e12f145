"""A reload: plugins, settings and the hub itself are replaced, and nobody who sends to it notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import START, HubProcess
from tests.support.plugins import install
from tests.support.webhook_load import Load, failed, webhook_load

_BUGS = Path(__file__).parent.parent / "support" / "start_reloading.py"
_FLOWS = {
    "quick": """id: quick
namespace: demo
triggers: [{id: hook, type: webhook, key: k}]
tasks: [{id: say, type: log, message: "{{ trigger.body.n }}"}]
""",
    "answer": """id: answer
namespace: demo
triggers: [{id: hook, type: webhook, key: k, wait: true}]
tasks: [{id: give, type: return, value: "{{ trigger.body.n }}"}]
outputs: [{id: n, value: "{{ outputs.give.value }}"}]
""",
    "ponder": """id: ponder
namespace: demo
triggers: [{id: hook, type: webhook, key: k, wait: true}]
tasks: [{id: sleep, type: script.shell, script: "sleep 0.3"}]
""",
    "slow": """id: slow
namespace: demo
inputs: [{id: seconds, type: FLOAT}]
tasks: [{id: sleep, type: script.shell, script: "echo begun >> $OUT; echo first; sleep $S; echo last", env: {S: "{{ inputs.seconds }}", OUT: "__OUT__"}}]
""",
}
_PATHS = [f"/api/v1/webhooks/demo/{flow}/k" for flow in ("quick", "answer", "ponder")]
_ANSWERED = set(zip(_PATHS, (202, 200, 200), strict=True))
_PLUGIN = """
    from typing import ClassVar
    from hub.plugin import Task, TaskContext, hookimpl

    class Tell(Task):
        '''Tell its version.'''

        type: ClassVar[str] = "acme.tell"

        async def run(self, ctx: TaskContext) -> dict[str, int]:
            return {"version": VERSION}

    @hookimpl
    def register_tasks():
        return [Tell]
"""


def folder_of(tmp_path: Path) -> Path:
    (tmp_path / "flows").mkdir()
    for name, source in _FLOWS.items():
        text = source.replace("__OUT__", str(tmp_path / "slept"))
        (tmp_path / "flows" / f"{name}.hub.yaml").write_text(text)
    return tmp_path


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[HubProcess]:
    with HubProcess(folder_of(tmp_path), flows=tmp_path / "flows") as running:
        yield running


async def command(hub: HubProcess, *arguments: str) -> asyncio.subprocess.Process:
    """A command of ``hub`` about this hub, begun."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("HUB_")}
    return await asyncio.create_subprocess_exec(
        *START,
        *arguments,
        "--data",
        str(hub.data),
        cwd=hub.data,
        env={**env, **hub.env},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )


async def reload(hub: HubProcess) -> tuple[int, str]:
    """``hub reload``: the exit code and what it said."""
    process = await command(hub, "reload")
    said, errors = await process.communicate()
    assert process.returncode is not None
    return process.returncode, (said + errors).decode()


def hub_pid(hub: HubProcess) -> int:
    return int(json.loads((hub.data / "hub.address").read_text())["pid"])


def check(hub: HubProcess, load: Load, *, more: int = 0) -> list[dict[str, Any]]:
    """No request went wrong, and each is one execution that succeeded, with so many ``more``."""
    assert load.failures == []
    assert set(load.statuses) == _ANSWERED
    for one in hub.all_of("/api/v1/executions"):
        if one["state"] in ("CREATED", "RUNNING"):
            hub.ended(one["id"])
    executions = [one for one in hub.all_of("/api/v1/executions") if one["flow"] != "slow"]
    assert failed(executions) == []
    assert len(executions) == load.count + more
    return executions


def check_all(hub: HubProcess, load: Load, *, more: int = 0) -> None:
    """The same, and what ran when it was reloaded ran once."""
    check(hub, load, more=more)
    assert (hub.data / "slept").read_text() == "begun\n", "what ran was begun again"


async def upload_over_a_reload(hub: HubProcess) -> int:
    """Send a request whose body takes longer than a handover may keep others waiting; answers the status."""
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    body = json.dumps({"n": "x" * 2_000}).encode()
    head = f"POST {_PATHS[0]} HTTP/1.1\r\nHost: 127.0.0.1:{hub.port}\r\nContent-Type: application/json\r\n"
    writer.write(head.encode() + b"Content-Length: %d\r\n\r\n" % len(body) + body[:1_000])
    assert (await asyncio.to_thread(hub.call, "POST", "/api/v1/reload")).status == 202
    await asyncio.sleep(4)
    writer.write(body[1_000:])
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_a_load_notices_nothing_of_reloads(hub: HubProcess) -> None:
    started = hub_pid(hub)
    slow = hub.call("POST", "/api/v1/flows/demo/slow/executions", {"inputs": {"seconds": 5}}).json
    pids = {started}
    following = await command(hub, "executions", "logs", slow["id"], "-f")
    async with webhook_load(hub.port, _PATHS) as load:
        await load.more(50)
        # one that waits for a script, one for nothing, one for a body that is on its way
        for number in (1, 2):
            code, said = await reload(hub)
            assert code == 0, said
            assert "has taken over after" in said
            pids.add(hub_pid(hub))
            assert hub.call("GET", "/api/v1/reload").json["number"] == number
            await load.more(50)
        assert await upload_over_a_reload(hub) == 202
        while hub.call("GET", "/api/v1/reload").json["number"] < 3:
            await asyncio.sleep(0.05)
        await load.more(50)
    assert len(pids) == 3
    assert "the handover waits for what runs" in hub.log.read_text()
    assert hub.ended(slow["id"])["state"] == "SUCCESS"
    lines, errors = await following.communicate()
    assert (following.returncode, errors) == (0, b"")
    assert [line.rsplit(maxsplit=1)[-1] for line in lines.decode().splitlines()] == ["first", "last"]
    check_all(hub, load, more=1)
    assert hub.stop() == 0
    assert not (hub.data / "hub.address").exists()


@pytest.mark.parametrize(
    ("bug", "seconds"),
    [
        pytest.param("connections_closed", 0, marks=pytest.mark.faults),
        pytest.param("answers_not_awaited", 0, marks=pytest.mark.faults),
        pytest.param("opened_too_early", 0, marks=pytest.mark.faults),
        pytest.param("what_runs_not_awaited", 12, marks=pytest.mark.faults),
    ],
)
async def test_the_load_notices_a_planted_bug(tmp_path: Path, bug: str, seconds: float) -> None:
    start = (sys.executable, str(_BUGS), bug)
    with HubProcess(folder_of(tmp_path), flows=tmp_path / "flows", start=start) as hub:
        slow = hub.call("POST", "/api/v1/flows/demo/slow/executions", {"inputs": {"seconds": seconds}}).json
        async with webhook_load(hub.port, _PATHS) as load:
            await load.more(20)
            assert (await reload(hub))[0] == 0
            await load.more(20)
        hub.ended(slow["id"])
        with pytest.raises(AssertionError):
            check_all(hub, load)


async def test_where_the_new_process_cannot_start_the_old_one_goes_on(hub: HubProcess) -> None:
    before = hub_pid(hub)
    async with webhook_load(hub.port, _PATHS) as load:
        (hub.data / "hub.yaml").write_text("retention: {executions: tomorrow}\n")
        code, said = await reload(hub)
        assert code == 7
        assert "hub.yaml:1:25" in said
        assert "executions" in said
        await load.more(20)
        assert hub_pid(hub) == before
        (hub.data / "hub.yaml").unlink()
        assert (await reload(hub))[0] == 0
        await load.more(20)
    check(hub, load)
    assert "hub.yaml:1:25" in hub.log.read_text()


async def test_where_it_fails_with_everything_in_its_hands_the_old_one_takes_it_back(tmp_path: Path) -> None:
    start = (sys.executable, str(_BUGS), "heir_cannot_open")
    with HubProcess(folder_of(tmp_path), flows=tmp_path / "flows", start=start) as hub:
        before = hub_pid(hub)
        async with webhook_load(hub.port, _PATHS) as load:
            await load.more(20)
            code, said = await reload(hub)
            assert code == 7
            assert "the disk is full" in said
            await load.more(20)
            assert hub_pid(hub) == before
            assert "again after" in await asyncio.to_thread(hub.process.stdout.readline)  # type: ignore[union-attr]
        check(hub, load)
        assert hub.stop() == 0


async def test_a_plugin_is_upgraded_and_one_that_is_missed_stops_the_reload(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    env = install(tmp_path / "site", "acme", _PLUGIN.replace("VERSION", "1"))
    flow = "id: tell\nnamespace: demo\ntasks: [{id: tell, type: acme.tell}]\noutputs: [{id: v, value: '{{ outputs.tell.version }}'}]\n"
    (folder / "flows" / "tell.hub.yaml").write_text(flow)
    module = tmp_path / "site" / "asynchub_acme.py"

    def told(hub: HubProcess) -> Any:
        started = hub.call("POST", "/api/v1/flows/demo/tell/executions", {}).json
        return hub.ended(started["id"])["outputs"]

    with HubProcess(folder, flows=folder / "flows", env=env) as hub:
        assert told(hub) == {"v": 1}
        async with webhook_load(hub.port, _PATHS) as load:
            await load.more(20)
            module.write_text(module.read_text().replace('"version": 1', '"version": 2'))
            assert (await reload(hub))[0] == 0
            assert told(hub) == {"v": 2}
            before = hub_pid(hub)
            (tmp_path / "site" / "asynchub_acme-1.0.dist-info" / "entry_points.txt").unlink()
            code, said = await reload(hub)
            assert code == 7
            assert "acme.tell" in said
            assert told(hub) == {"v": 2}
            await load.more(20)
            assert hub_pid(hub) == before
            (folder / "flows" / "tasks.py").write_text("import nothing_of_this_name\n")
            code, said = await reload(hub)
            assert code == 7
            assert "tasks.py:1: ModuleNotFoundError" in said
            # that was found before anybody had to wait
            assert hub.call("GET", "/api/v1/reload").json["number"] == 3
            assert hub.log.read_text().count("flow needs a plugin that is not there") == 0
        assert load.failures == []
        assert set(load.statuses) == _ANSWERED


async def test_the_process_that_was_started_stands_in_for_the_hub(hub: HubProcess) -> None:
    assert hub.process is not None
    hub.process.send_signal(signal.SIGHUP)
    while hub_pid(hub) == hub.process.pid:
        await asyncio.sleep(0.05)
    line = await asyncio.to_thread(hub.process.stdout.readline)  # type: ignore[union-attr]
    assert "ready at" in line
    assert hub.process.poll() is None
    assert (await reload(hub))[0] == 0
    # its end by a signal is the end of the process that was started
    os.kill(hub_pid(hub), signal.SIGKILL)
    assert await asyncio.to_thread(hub.process.wait, 20) == -signal.SIGKILL
    hub.start()
    assert (await reload(hub))[0] == 0
    with open(f"/proc/{hub_pid(hub)}/stat") as file:
        pid = int(file.read().split()[0])
    hub.kill()
    # nobody can end a process that nobody knows of any more: it ends itself
    async with asyncio.timeout(90):
        while not has_ended(pid):
            await asyncio.sleep(0.05)
    assert not (hub.data / "hub.address").exists()


def has_ended(pid: int) -> bool:
    """Whether a process is over, even where nobody has asked how it ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.faults
@pytest.mark.timeout(600)
async def test_fifty_senders_at_full_speed_notice_nothing_of_six_reloads(hub: HubProcess) -> None:
    async with webhook_load(hub.port, [*_PATHS[:1] * 12, *_PATHS[1:2] * 6], pause=0) as load:
        for _ in range(6):
            await load.more(400)
            code, said = await reload(hub)
            assert code == 0, said
        await load.more(400)
    assert load.failures == []
    assert set(load.statuses) == {(_PATHS[0], 202), (_PATHS[1], 200)}
    async with asyncio.timeout(120):
        while any(total(hub, state) for state in ("CREATED", "RUNNING")):
            await asyncio.sleep(0.2)
    assert total(hub, "SUCCESS") == load.count


def total(hub: HubProcess, state: str) -> int:
    """How many executions are in a state."""
    return int(hub.call("GET", f"/api/v1/executions?limit=1&count=true&state={state}").json["total"])


@pytest.mark.faults
async def test_a_process_that_cannot_become_small_stands_in_all_the_same(tmp_path: Path) -> None:
    start = (sys.executable, str(_BUGS), "interpreter_gone")
    with HubProcess(folder_of(tmp_path), flows=tmp_path / "flows", start=start) as hub:
        for _ in range(2):
            assert (await reload(hub))[0] == 0
        assert hub.process is not None
        assert hub_pid(hub) != hub.process.pid
        assert hub.stop() == 0
