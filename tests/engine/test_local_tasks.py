"""A ``tasks.py`` in a flow folder: saved means usable, and a broken one keeps the last good one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from hub.app import Place, open_node
from hub.config.settings import Settings
from hub.errors import InvalidFlow, PluginError
from hub.registry import local
from hub.testing import Harness

GREET = '''
from hub.plugin import task

@task
def greet(name: str) -> str:
    """Greet somebody."""
    return f"Hello, {name}!"
'''
FLOW = """id: f
namespace: t
tasks: [{id: a, type: local.greet, name: Ada}]
outputs: [{id: text, type: STRING, value: "{{ outputs.a.value }}"}]
"""


class Folder:
    """A hub over a folder of flows that was named on its command line."""

    def __init__(self, hub: Harness, folder: Path) -> None:
        self.hub = hub
        self.folder = folder

    async def save(self, source: str, name: str = "tasks.py") -> None:
        """Save a file the way editors do, and wait until the hub has looked at it."""
        part = self.folder / f"{name}.part"
        part.write_text(dedent(source))
        part.replace(self.folder / name)
        await self.hub.node.folders.scan()

    async def result(self) -> str:
        ended = await self.hub.run("t/f")
        assert ended.error is None, ended.error
        assert ended.outputs is not None
        return str(ended.outputs["text"])

    def report(self) -> tuple[str, tuple[str, ...], str]:
        [found] = [one for one in self.hub.node.services.registry.plugins if one.name.endswith("tasks.py")]
        return found.state, found.types, found.error or ""


@asynccontextmanager
async def opened(tmp_path: Path, *, named: bool = True) -> AsyncIterator[Folder]:
    flows = tmp_path / "flows"
    flows.mkdir(exist_ok=True)
    data = tmp_path / "data"
    data.mkdir(exist_ok=True)
    settings = Settings.model_validate({"storage": f"sqlite:///{data / 'hub.db'}"})
    place = Place(settings, tmp_path, data, {})
    async with open_node(place, folders=[flows], task_folders=[flows] if named else []) as node:
        node.drain_grace = 0.0
        async with node.running():
            yield Folder(Harness(node), flows)


async def test_saved_means_usable_in_whatever_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await folder.save(FLOW, "f.hub.yaml")
        assert "local tasks are functions in a tasks.py" in str(folder.hub.node.catalog.broken)
        await folder.save(GREET)
        assert folder.report() == ("loaded", ("local.greet",), "")
        assert await folder.result() == "Hello, Ada!"
        assert not folder.hub.node.catalog.broken
        await folder.save(GREET.replace("Hello", "Good day"))
        assert await folder.result() == "Good day, Ada!"


async def test_a_watching_hub_notices_by_itself(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "tasks.py").write_text(GREET)
    (tmp_path / "flows" / "f.hub.yaml").write_text(FLOW)
    async with opened(tmp_path) as folder:
        assert await folder.result() == "Hello, Ada!"
        with folder.hub.node.services.bus.subscribe("types") as news:
            part = tmp_path / "part"
            part.write_text(GREET.replace("Hello", "Good day"))
            part.replace(folder.folder / "tasks.py")
            async with asyncio.timeout(30):
                assert (await news.next()).details == {"names": ["local.greet"]}
        assert await folder.result() == "Good day, Ada!"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def greet(:\n    pass\n", r"tasks\.py:1: SyntaxError: "),
        ("x = 1\nraise ValueError('bad day')\n", r"tasks\.py:2: ValueError: bad day"),
        ("import os\nos._exit(3)\n", "ends its process when it is loaded"),
        ("while True: pass\n", "takes longer than 2 s to load"),
        (GREET.replace("name: str", "name"), r'tasks\.py:4: TypeError: greet: "name" has no type'),
        (GREET.replace("@task", '@task("acme.greet")'), r"tasks\.py:4: tasks of a tasks\.py are local\.NAME"),
        (
            GREET + GREET.replace("def greet", "def greet2").replace("@task", "@task('greet')"),
            "is there twice",
        ),
        ("x = '\\ud800'\nraise Exception(x)\n", r"tasks\.py:2: Exception: "),
    ],
)
async def test_a_broken_file_keeps_the_last_good_one_and_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    async with opened(tmp_path) as folder:
        await folder.save(GREET)
        await folder.save(FLOW, "f.hub.yaml")
        with monkeypatch.context() as patch:
            patch.setattr(local, "_LONGEST_TRIAL", 2.0 if "while" in source else 20.0)
            await folder.save(source)
        state, types, error = folder.report()
        assert (state, types) == ("partly", ("local.greet",))
        assert re.search(message, error), error
        assert await folder.result() == "Hello, Ada!"


async def test_a_change_that_a_flow_cannot_be_run_with_is_shown_at_the_flow(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await folder.save(GREET)
        await folder.save(FLOW, "f.hub.yaml")
        await folder.save(GREET.replace("name", "whom"))
        assert 'unknown property "name"' in str(folder.hub.node.catalog.broken)
        await folder.save(GREET)
        assert not folder.hub.node.catalog.broken
        (folder.folder / "tasks.py").unlink()
        await folder.hub.node.folders.scan()
        assert "local.greet" in str(folder.hub.node.catalog.broken)


async def test_a_newer_text_that_cannot_be_used_stays_shown(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await folder.save(GREET)
        await folder.save(FLOW, "f.hub.yaml")
        await folder.save(FLOW.replace("namespace", "namespcae"), "f.hub.yaml")
        await folder.save(GREET.replace("Hello", "Good day"))
        assert "namespcae" in str(folder.hub.node.catalog.broken)
        assert await folder.result() == "Good day, Ada!"


async def test_what_runs_goes_on_with_what_it_began_with(tmp_path: Path) -> None:
    source = '''
    import asyncio
    from hub.plugin import TaskContext, task

    @task
    async def greet(name: str, ctx: TaskContext) -> str:
        """Greet somebody once a file is there."""
        ctx.logger.info("waiting")
        while not ctx.place("go").exists():
            await asyncio.sleep(0.02)
        return f"Hello, {name}!"
    '''
    async with opened(tmp_path) as folder:
        await folder.save(source)
        await folder.save(FLOW, "f.hub.yaml")
        started = await folder.hub.start("t/f")
        await folder.save(GREET.replace("Hello", "Good day"))
        (tmp_path / "go").touch()
        ended = await folder.hub.ended(started.id)
        assert ended.outputs == {"text": "Hello, Ada!"}
        assert await folder.result() == "Good day, Ada!"


async def test_a_folder_that_nobody_named_is_not_run(tmp_path: Path) -> None:
    import structlog

    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "tasks.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n{GREET}")
    with structlog.testing.capture_logs() as said:
        async with opened(tmp_path, named=False) as folder:
            with pytest.raises(InvalidFlow, match=r"local\.greet"):
                await folder.hub.put(FLOW)
    assert not (tmp_path / "ran").exists()
    assert [one["hint"] for one in said if "not loaded" in one["event"]] == [
        f"hub serve --flows {tmp_path / 'flows'} loads it, with the hub's own rights"
    ]


async def test_a_stored_flow_whose_tasks_are_gone_stops_the_start_by_name(tmp_path: Path) -> None:
    async with opened(tmp_path) as folder:
        await folder.save(GREET)
        await folder.hub.put(FLOW)
    (tmp_path / "flows" / "tasks.py").unlink()
    with pytest.raises(PluginError, match=r'flow t/f needs the task type "local\.greet": local tasks are'):
        async with opened(tmp_path):
            pass


async def test_of_two_folders_with_one_name_the_first_has_it(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
        (folder / "tasks.py").write_text(GREET)
    place = Place(Settings.model_validate({"storage": "memory:"}), tmp_path, tmp_path, {})
    async with open_node(place, folders=folders, task_folders=folders) as node, node.running():
        states = {
            Path(one.name).parent.name: one for one in node.services.registry.plugins if "/" in one.name
        }
        assert (states["one"].state, states["two"].state) == ("loaded", "failed")
        assert f'"local.greet" is a task of {folders[0] / "tasks.py"}' in str(states["two"].error)


def test_a_dataclass_and_late_annotations_are_understood(tmp_path: Path) -> None:
    source = '''
    from __future__ import annotations
    from dataclasses import dataclass
    from typing import ClassVar
    from hub.plugin import task

    @dataclass
    class Point:
        x: int
        kind: ClassVar[str] = "p"

    @task("place")
    async def place_it(x: int, other: Point | None = None) -> Point:
        """Give a point."""
        return Point(x)
    '''
    found = local.load_source(tmp_path / "tasks.py", dedent(source))
    assert list(found) == ["local.place"]
