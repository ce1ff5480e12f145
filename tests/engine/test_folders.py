"""Flow folders: whatever happens to a file, its flow follows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hub.engine.folders import FlowFolders
from hub.model.ids import FlowKey
from hub.testing import Harness


def flow(id: str, message: str = "x") -> str:
    return (
        f"id: {id}\nnamespace: f\ntriggers: [{{id: t, type: webhook, key: k}}]\n"
        f"tasks: [{{id: a, type: log, message: {message}}}]\n"
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "flows"
    made.mkdir()
    return made


def key(id: str) -> FlowKey:
    return FlowKey("f", id)


def in_use(hub: Harness) -> dict[str, str | None]:
    """The flows with the names of their files."""
    return {r.key.id: r.origin and Path(r.origin).name for r in hub.node.catalog.records()}


def problems(hub: Harness) -> dict[str, str]:
    return {Path(file).name: found[0].message for file, found in hub.node.catalog.broken.items()}


def waiting(id: str, other: str) -> str:
    return flow(id).replace("type: webhook, key: k", f"type: flow.finished, flow: {other}")


async def test_a_file_that_closes_a_loop_is_taken_once_another_has_opened_it(
    hub: Harness, folder: Path
) -> None:
    (folder / "a.hub.yaml").write_text(waiting("a", "b"))
    (folder / "b.hub.yaml").write_text(waiting("b", "a"))
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    assert in_use(hub) == {"a": "a.hub.yaml"}
    assert problems(hub)["b.hub.yaml"].endswith("on and on: f/b → f/a → f/b")
    (folder / "a.hub.yaml").write_text(waiting("a", "other"))
    await folders.scan()
    await folders.scan()
    assert in_use(hub) == {"a": "a.hub.yaml", "b": "b.hub.yaml"}
    assert problems(hub) == {}


async def test_every_file_is_taken_however_many_there_are(hub: Harness, folder: Path) -> None:
    names = [f"f{number}" for number in range(100)]
    for name in names:
        (folder / f"{name}.hub.yaml").write_text(flow(name))
    (folder / "broken.hub.yaml").write_text("id: [")
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    assert in_use(hub) == {name: f"{name}.hub.yaml" for name in names}
    assert list(problems(hub)) == ["broken.hub.yaml"]


async def test_a_renamed_file_takes_its_flow_along_without_a_gap(hub: Harness, folder: Path) -> None:
    (folder / "b.hub.yaml").write_text(flow("one"))
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    since = hub.node.catalog.enabled_since(key("one"), "t")
    gaps: list[str] = []
    hub.node.catalog.on_change(
        lambda key: gaps.append(str(key)) if hub.node.catalog.get(key) is None else None
    )
    for name in ("a.hub.yaml", "c.hub.yaml"):
        [file] = folder.iterdir()
        file.rename(folder / name)
        await folders.scan()
        assert in_use(hub) == {"one": name}
        record = hub.node.catalog.get(key("one"))
        assert record is not None
        assert record.revision == 1
        assert hub.node.catalog.enabled_since(key("one"), "t") == since
    assert (gaps, problems(hub)) == ([], {})


async def test_a_moved_project_keeps_its_flows(hub: Harness, folder: Path) -> None:
    (folder / "a.hub.yaml").write_text(flow("one"))
    await FlowFolders([folder], hub.node.catalog).scan()
    moved = folder.rename(folder.parent / "elsewhere")
    # the next start, over the same storage
    await hub.node.catalog.open()
    await FlowFolders([moved], hub.node.catalog).scan()
    record = hub.node.catalog.get(key("one"))
    assert record is not None
    assert record.origin == str(moved / "a.hub.yaml")
    assert problems(hub) == {}


async def test_the_second_file_of_a_flow_is_refused_until_the_first_is_gone(
    hub: Harness, folder: Path
) -> None:
    (folder / "a.hub.yaml").write_text(flow("one", "first"))
    (folder / "b.hub.yaml").write_text(flow("one", "second"))
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    await folders.scan()
    assert in_use(hub) == {"one": "a.hub.yaml"}
    assert "belongs to the file" in problems(hub)["b.hub.yaml"]
    (folder / "a.hub.yaml").unlink()
    await folders.scan()
    assert (in_use(hub), problems(hub)) == ({"one": "b.hub.yaml"}, {})


async def test_two_files_may_swap_their_flows(hub: Harness, folder: Path) -> None:
    (folder / "a.hub.yaml").write_text(flow("one"))
    (folder / "b.hub.yaml").write_text(flow("two"))
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    (folder / "a.hub.yaml").write_text(flow("two", "swapped"))
    (folder / "b.hub.yaml").write_text(flow("one", "swapped"))
    await folders.scan()
    assert (in_use(hub), problems(hub)) == ({"one": "b.hub.yaml", "two": "a.hub.yaml"}, {})


async def test_a_broken_file_keeps_its_flow_from_others(hub: Harness, folder: Path) -> None:
    (folder / "a.hub.yaml").write_text(flow("one"))
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    (folder / "a.hub.yaml").write_text("id: one\nnamespace: f\n")
    (folder / "b.hub.yaml").write_text(flow("one"))
    await folders.scan()
    assert in_use(hub) == {"one": "a.hub.yaml"}
    assert set(problems(hub)) == {"a.hub.yaml", "b.hub.yaml"}


async def test_a_broken_file_is_no_longer_listed_once_it_is_deleted(hub: Harness, folder: Path) -> None:
    (folder / "a.hub.yaml").write_text("id: [")
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    assert set(problems(hub)) == {"a.hub.yaml"}
    (folder / "a.hub.yaml").unlink()
    await folders.scan()
    assert problems(hub) == {}


async def test_a_name_that_is_no_text_is_a_finding_and_not_the_end(hub: Harness, folder: Path) -> None:
    (folder / "a.hub.yaml").write_text(flow("one"))
    Path(os.fsdecode(os.fsencode(folder / "x") + b"\xff.hub.yaml")).write_text(flow("two"))
    await FlowFolders([folder], hub.node.catalog).scan()
    assert in_use(hub) == {"one": "a.hub.yaml"}
    assert problems(hub) == {"x\\udcff.hub.yaml": "a file's name must be printable text"}


@asynccontextmanager
async def watching(hub: Harness, folder: Path) -> AsyncIterator[FlowFolders]:
    folders = FlowFolders([folder], hub.node.catalog)
    await folders.scan()
    job = asyncio.create_task(folders.watch())
    try:
        yield folders
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)


async def until_in_use(hub: Harness, id: str, name: str | None) -> None:
    """Wait until a flow belongs to a file; the bus tells of every change."""
    async with asyncio.timeout(20):
        with hub.node.services.bus.subscribe("flow") as news:
            while in_use(hub).get(id) != name:
                await news.next()


async def test_a_file_takes_over_when_its_flow_is_deleted_through_the_api(hub: Harness, folder: Path) -> None:
    await hub.put(flow("one"))
    (folder / "a.hub.yaml").write_text(flow("one", "file"))
    async with watching(hub, folder):
        assert problems(hub) == {"a.hub.yaml": "flow f/one was put through the API and belongs to no file"}
        await hub.node.catalog.retire(key("one"))
        await until_in_use(hub, "one", "a.hub.yaml")
    assert problems(hub) == {}


async def test_a_folder_that_is_made_later_is_watched(hub: Harness, tmp_path: Path) -> None:
    folder = tmp_path / "later"
    async with watching(hub, folder):
        folder.mkdir()
        (folder / "a.hub.yaml").write_text(flow("one"))
        await until_in_use(hub, "one", "a.hub.yaml")
