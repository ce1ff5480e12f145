"""Plugins that harm: the hub goes on, and each is named in ``plugins list`` with what to do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_process import HubProcess, hub_command
from tests.support.plugins import install

_TASK = """
    from hub.plugin import Task, TaskContext, hookimpl
    from pydantic import Field

    class Do(Task):
        \"""Do it.\"""
        type = "{name}.do"
        async def run(self, ctx):
            return {{}}
"""
_GIVEN = """
    @hookimpl
    def register_tasks():
        return [Do]
"""
LOADING = {
    "raises": ("1 / 0", "ZeroDivisionError: division by zero"),
    "misspelled": ("def x(:\n    pass", "SyntaxError: "),
    "driverless": ("import asynchub_no_such_driver", "Install it with: pip install asynchub_no_such_driver"),
    "exits": ("import sys\nsys.exit(3)", "SystemExit: 3"),
    "leaves": ("import os\nos._exit(3)", "ends its process with exit code 3 when it is loaded, at site/asynchub_leaves.py:2"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "ends its process by SIGSEGV when it is loaded, at site/asynchub_crashes.py:2"),
    "kills": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "ends its process by SIGKILL"),
    "sleeps": ("import time\ntime.sleep(3600)", "takes longer than 3 s to be loaded, at site/asynchub_sleeps.py:2"),
    "turns": ("while True:\n    pass", "takes longer than 3 s to be loaded, at site/asynchub_turns.py:"),
    "hoards": ("held = [bytes(10**8) for _ in range(1000)]", "asks for more memory than there is"),
    "recurses": ("def again():\n    again()\nagain()", "RecursionError"),
    "waits": ("from hub.plugin import hookimpl\n@hookimpl\ndef register_tasks():\n    import time\n    time.sleep(3600)", "takes longer than 3 s to be loaded, at site/asynchub_waits.py:5"),
    "nonsense": ("from hub.plugin import hookimpl\n@hookimpl\ndef register_tasks():\n    return 42", "register_tasks gives a list, got 42"),
    "coroutine": ("from hub.plugin import hookimpl\n@hookimpl\nasync def register_tasks():\n    return []", "register_tasks is async"),
    "unknown": ("from hub.plugin import hookimpl\n@hookimpl\ndef register_task():\n    return []", 'unknown hook "register_task" (did you mean "register_tasks"?)'),
    "signature": (_TASK.format(name="signature").replace("self, ctx", "self") + _GIVEN, "Do.run is called with (self, ctx), this one takes (self)"),
    "stranger": (_TASK.format(name="core") + _GIVEN, 'the type "core.do" must begin with the plugin\'s name'),
    "twice": (_TASK.format(name="twice") + _GIVEN.replace("[Do]", "[Do, type('Other', (Do,), {'__doc__': 'x.'})]"), '"twice.do" is brought twice'),
    "future": ("HUB_API = 99", "written for plugin API 99, this hub has 1"),
    "formless": (_TASK.format(name="formless").replace("async def run", "call: __import__('typing').Callable[[], int] = Field(len, description='x')\n        async def run") + _GIVEN, "has no JSON Schema"),
}  # fmt: skip
"""What is harmful when it is loaded, by name: its module, and what is said of it."""

RUNNING = """
    import asyncio, gc, pathlib, sqlite3, sys, time
    from hub.plugin import Listener, Task, hookimpl

    class Blocks(Task):
        \"""Keep the loop.\"""
        type = "harm.blocks"
        async def run(self, ctx):
            time.sleep(1.8)

    class Gives(Task):
        \"""Give nonsense.\"""
        type = "harm.gives"
        async def run(self, ctx):
            return object()

    class Cancels(Task):
        \"""Cancel its parent.\"""
        type = "harm.cancels"
        async def run(self, ctx):
            asyncio.current_task().cancel()
            await asyncio.sleep(60)

    class Exits(Task):
        \"""Ask the process to exit.\"""
        type = "harm.exits"
        async def run(self, ctx):
            sys.exit(3)

    async def left():
        await asyncio.sleep(3600)

    LEFT = []

    class Leaves(Task):
        \"""Leave tasks behind.\"""
        type = "harm.leaves"
        async def run(self, ctx):
            LEFT.extend(asyncio.create_task(left()) for _ in range(300))

    def close_all(close):
        closed = 0
        gc.unfreeze()
        for one in gc.get_objects():
            if isinstance(one, sqlite3.Connection):
                close(one)
                closed += 1
        return {"value": closed}

    class Closes(Task):
        \"""Close the database.\"""
        type = "harm.closes"
        async def run(self, ctx):
            return close_all(lambda one: one.close())

    class ClosesSlyly(Task):
        \"""Close the database, past whoever might mind.\"""
        type = "harm.closesSlyly"
        async def run(self, ctx):
            return close_all(sqlite3.Connection.close)

    class CancelsAll(Task):
        \"""Cancel everything but itself.\"""
        type = "harm.cancelsAll"
        async def run(self, ctx):
            own = asyncio.create_task(asyncio.sleep(60))
            for one in asyncio.all_tasks() - {asyncio.current_task()}:
                one.cancel()
            await asyncio.wait([own])
            return {"value": own.cancelled()}

    class Fails(Listener):
        type = "harm.fails"
        async def run(self, ctx, news):
            async for one in news:
                raise RuntimeError("not today")

    @hookimpl
    def register_tasks():
        return [Blocks, Gives, Cancels, Exits, Leaves, Closes, ClosesSlyly, CancelsAll]

    @hookimpl
    def register_listeners():
        return [Fails]
"""
SAID = {
    "blocks": ("it keeps the whole hub from everything else", "make it a plain def"),
    "gives": ("it gives what cannot be stored", "return its Output model"),
    "cancels": ("it cancels the task that it runs in", "cancel only tasks of your own making"),
    "cancelsAll": (
        "it cancels tasks that are not its own",
        "keep the tasks that asyncio.create_task gives it",
    ),
    "closes": ("it lays hands on what is the hub's own", "open a connection or file of its own"),
    "exits": ("it asks the process to exit", "raise Fail(reason)"),
    "leaves": ("it leaves asyncio tasks behind", "asyncio.TaskGroup()"),
}
ENDING = """
    import asyncio, os, pathlib
    from hub.plugin import Task, hookimpl

    class Harm(Task):
        async def run(self, ctx):
            mark = pathlib.Path(f"{self.type}.done")
            if mark.exists():
                return {"value": "the second time"}
            mark.touch()
            await self.harm()

    class Leaves(Harm):
        \"""End the process.\"""
        type = "ending.leaves"
        async def harm(self):
            os._exit(7)

    class Turns(Harm):
        \"""Never let go.\"""
        type = "ending.turns"
        async def harm(self):
            while True:
                pass

    class Crashes(Harm):
        \"""Crash the machine.\"""
        type = "ending.crashes"
        async def harm(self):
            import ctypes
            ctypes.string_at(0)

    class Holds(Harm):
        \"""Hold the interpreter itself, in C.\"""
        type = "ending.holds"
        async def harm(self):
            import re
            re.match("(a+)+$", "a" * 60 + "b")

    class Cancels(Harm):
        \"""Cancel everything, past whoever might mind.\"""
        type = "ending.cancels"
        async def harm(self):
            for one in asyncio.all_tasks():
                asyncio.Task.cancel(one)
            await asyncio.sleep(60)

    @hookimpl
    def register_tasks():
        return [Leaves, Turns, Crashes, Holds, Cancels]
"""
BESIDE = b"""id: beside
namespace: t
tasks:
  - id: both
    type: flow.parallel
    tasks: [{id: a, type: flow.sleep, duration: PT2S}, {id: b, type: script.shell, script: sleep 2}]
"""
START = (
    sys.executable,
    "-c",
    "import hub.registry.trial as trial, hub.engine.census as census; trial.LONGEST = 3.0; census.EVERY = 0.2;"
    "from hub.cli import main; main()",
)
"""The hub with shorter times; what it does in them is its own."""


def flow(name: str, type_name: str) -> bytes:
    return f"id: {name}\nnamespace: t\ntasks: [{{id: a, type: {type_name}}}]\n".encode()


def put_and_start(hub: HubProcess, name: str, type_name: str) -> str:
    assert hub.call("PUT", f"/api/v1/flows/t/{name}", flow(name, type_name)).status in (200, 201)
    answer = hub.call("POST", f"/api/v1/flows/t/{name}/executions", {})
    assert answer.status == 201, answer.json
    return str(answer.json["id"])


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    site = tmp_path_factory.mktemp("hostile") / "site"
    for name, (module, _) in LOADING.items():
        found = install(site, name, module)
    install(site, "harm", RUNNING)
    # the good one among them, heavy to load
    install(site, "heavy", "import time\ntime.sleep(1.1)" + _TASK.format(name="heavy").replace("\n    ", "\n") + _GIVEN.replace("\n    ", "\n"))  # fmt: skip
    return found


@pytest.fixture(scope="module")
def hub(env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    with HubProcess(tmp_path_factory.mktemp("data"), env=env, start=START) as hub:
        yield hub


@pytest.fixture(scope="module")
def reports(hub: HubProcess) -> dict[str, Any]:
    """Every plugin as ``plugins list --running`` has it, once each of the harmful ones has done its worst."""
    for name in SAID:
        hub.ended(put_and_start(hub, name, f"harm.{name}"))
    for _ in range(100):
        done = hub_command("plugins", "list", "--running", "-o", "json", cwd=hub.data)
        assert done.returncode == 0, done.stderr
        found = {one["name"]: one for one in json.loads(done.stdout)}
        if len(found["harm"]["faults"]) == len(SAID):
            break
    return found


@pytest.mark.parametrize("name", sorted(LOADING))
def test_a_plugin_that_harms_when_it_is_loaded_is_named(reports: dict[str, Any], name: str) -> None:
    report = reports[name]
    assert report["state"] == "failed"
    assert LOADING[name][1] in report["error"]
    assert "Install it" in report["error"] or f"plugins: {{{name}: {{enabled: false}}}}" in report["error"]


@pytest.mark.parametrize("name", sorted(SAID))
def test_a_plugin_that_harms_while_it_runs_is_named(reports: dict[str, Any], name: str) -> None:
    fault, hint = SAID[name]
    [found] = [one for one in reports["harm"]["faults"] if one["fault"] == fault]
    assert found["component"] in (f"harm.{name}", None)
    assert hint in found["hint"]
    assert found["count"] >= 1


def test_a_listener_that_fails_is_named(reports: dict[str, Any]) -> None:
    [listener] = reports["harm"]["listeners"]
    assert listener["error"] == "RuntimeError: not today"


def test_a_plugin_that_is_heavy_to_load_is_told_so(reports: dict[str, Any]) -> None:
    assert reports["heavy"]["state"] == "loaded"
    assert "import what is heavy inside the functions that use it" in reports["heavy"]["advice"]


def test_the_table_says_what_to_do(hub: HubProcess, reports: dict[str, Any]) -> None:
    done = hub_command("plugins", "list", "--running", cwd=hub.data)
    assert "harm.gives: it gives what cannot be stored: return its Output model" in done.stdout


def test_the_hub_goes_on_beside_them(hub: HubProcess, reports: dict[str, Any]) -> None:
    assert hub.call("GET", "/health/ready").status == 200
    closed = hub.ended(put_and_start(hub, "slyly", "harm.closesSlyly"))
    # its own connections were closed beneath it, and it opens them again
    assert (closed["state"], closed["taskRuns"][0]["outputs"]["value"] > 0) == ("SUCCESS", True)
    assert hub.ended(put_and_start(hub, "good", "heavy.do"))["state"] == "SUCCESS"


def test_what_a_plugin_may_not_lay_hands_on_is_as_it_was(hub: HubProcess, reports: dict[str, Any]) -> None:
    """Whoever waits for the hub, and whatever runs beside, notices nothing of it."""
    hub.call("PUT", "/api/v1/flows/t/beside", BESIDE)
    started = hub.call("POST", "/api/v1/flows/t/beside/executions", {}).json["id"]
    cancels = hub.ended(put_and_start(hub, "cancelsAll", "harm.cancelsAll"))
    # of what it cancels its own task alone is cancelled
    assert (cancels["state"], cancels["taskRuns"][0]["outputs"]["value"]) == ("SUCCESS", True)
    closes = hub.ended(put_and_start(hub, "closes", "harm.closes"))
    assert closes["state"] == "FAILED"
    assert "this connection to the hub's database is the storage's" in closes["error"]
    assert hub.ended(started)["state"] == "SUCCESS"
    log = hub.log.read_text()
    assert "a plugin cancels tasks that are not its own; they go on" in log
    assert "trigger failed" not in log


def test_those_that_cannot_be_loaded_are_listed_without_a_hub_too(
    env: dict[str, str], tmp_path: Path
) -> None:
    quick = {name for name in LOADING if "longer than" not in LOADING[name][1]}
    others = ", ".join(f"{name}: {{enabled: false}}" for name in [*(set(LOADING) - quick), "heavy"])
    (tmp_path / "hub.yaml").write_text(f"plugins: {{{others}}}\n")
    done = hub_command("plugins", "list", "-o", "json", cwd=tmp_path, env=env)
    assert done.returncode == 0, done.stderr
    failed = {one["name"] for one in json.loads(done.stdout) if one["state"] == "failed"}
    assert failed == quick


_NAMED = {
    "leaves": "the hub is ended by a call of os._exit",
    "turns": "the hub ends itself: one call never lets go",
}


@pytest.mark.parametrize(
    # one that holds the interpreter is ended half a minute later, by a clock outside it
    "name",
    ["leaves", "turns", "crashes", "cancels", pytest.param("holds", marks=pytest.mark.faults)],
)
def test_what_ends_the_process_is_named_and_recovery_finishes_the_work(tmp_path: Path, name: str) -> None:
    env = install(tmp_path / "site", "ending", ENDING)
    (tmp_path / "hub.yaml").write_text("limits: {longestBlock: PT2S}\n")
    hub = HubProcess(tmp_path, env=env)
    with hub:
        assert hub.process is not None
        assert hub.call("PUT", "/api/v1/flows/t/f", flow("f", f"ending.{name}")).status == 201
        try:
            hub.call("POST", "/api/v1/flows/t/f/executions", {})
        except OSError:
            pass  # it may be gone before it has answered
        assert hub.process.wait(100) != 0
        log = hub.log.read_text()
        assert "asynchub_ending.py" in log or name == "cancels"
        if name in _NAMED:
            [line] = [line for line in log.splitlines() if _NAMED[name] in line]
            assert "plugin=ending" in line
            assert f"component=ending.{name}" in line
        hub.start()
        [execution] = hub.all_of("/api/v1/executions")
        ended = hub.ended(execution["id"])
        assert ended["state"] == "SUCCESS"
        assert ended["taskRuns"][0]["outputs"] == {"value": "the second time"}
        assert hub.stop() == 0


def test_a_start_with_built_in_plugins_tries_nothing(tmp_path: Path) -> None:
    code = "import hub.registry.trial as t, hub.registry.loader as l\nl.tried = None\nl.load_plugins({})"
    built_in = {"PYTHONPATH": "", "PATH": os.environ["PATH"]}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=built_in, check=True, timeout=60)
