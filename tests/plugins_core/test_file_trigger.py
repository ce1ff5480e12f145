"""file.arrival: what is found, when it counts as whole, and where it lies from the first task to the last."""

from __future__ import annotations

import asyncio
import os
import socket
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from hub.errors import InvalidFlow
from hub.model.execution import ExecutionState
from tests.support.arrivals import MOVES, SOON, Arrivals, Gates, arrivals, flow


async def content_of_next(drop: Arrivals) -> str:
    [ended] = await drop.ended()
    return str((await drop.outputs(ended))["content"])


# what is found, and when


@pytest.mark.parametrize("storage", ["memory:", "sqlite"])
async def test_a_file_is_one_event_and_lies_where_after_says(tmp_path: Path, storage: str) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}" if storage == "sqlite" else storage
    async with arrivals(tmp_path, flow(), storage=url) as drop:
        drop.put("a.csv", "one,two")
        [ended] = await drop.ended()
        outputs = await drop.outputs(ended)
        assert outputs["content"] == "one,two"
        assert outputs["name"] == "a.csv"
        await drop.until(lambda: drop.names("done") == ["a.csv"])
        assert drop.names("inbox") == []
        assert (tmp_path / "done" / "a.csv").read_text() == "one,two"
        [event] = await drop.events()
        assert event["source"] == str(tmp_path / "inbox" / "a.csv")
        assert event["size"] == 7


async def test_files_that_lie_there_at_the_start_are_found(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(), before={"a": "1", "b": "2", "c": "3"}) as drop:
        ended = await drop.ended(3)
        assert sorted([(await drop.outputs(one))["content"] for one in ended]) == ["1", "2", "3"]


async def test_a_file_that_somebody_still_writes_is_left_alone(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow()) as drop:
        slow = drop.inbox / "slow"
        with slow.open("w") as file:
            file.write("first half, ")
            file.flush()
            # others come and go meanwhile, each after more than the time to settle
            for name in ("a", "b", "c"):
                (drop.inbox / name).write_text(name)
                assert await content_of_next(drop) == name
            assert slow.exists()
            file.write("second half")
        assert await content_of_next(drop) == "first half, second half"


async def test_the_same_name_again_is_another_file(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow()) as drop:
        for content in ("first", "second", "third"):
            drop.put("a.csv", content)
            assert await content_of_next(drop) == content
        await drop.until(lambda: len(drop.names("done")) == 3)
        found = sorted((tmp_path / "done" / name).read_text() for name in drop.names("done"))
        assert found == ["first", "second", "third"]
        assert "a.csv" in drop.names("done")
        assert all(name.endswith(".csv") for name in drop.names("done"))


async def test_a_file_that_is_renamed_into_place_is_whole_at_once(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f'pattern: "*.csv", settle: PT1H, {MOVES}')) as drop:
        for number in count():
            part = drop.inbox / f"{number}.part"
            part.write_text("whole")
            part.rename(drop.inbox / f"{number}.csv")
            # one that came before the folder was watched has to settle like any other
            with suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await drop.emitted()
                    break
        assert await content_of_next(drop) == "whole"


async def test_a_file_is_replaced_while_the_one_before_it_is_worked_on(tmp_path: Path, gates: Gates) -> None:
    gates.put("old", "new")
    async with arrivals(tmp_path, gates.flow()) as drop:
        drop.put("a.csv", "old")
        await gates.reached("old")
        drop.put("a.csv", "new")
        await drop.until(lambda: len(drop.claimed()) == 2)
        await gates.open("old", "new")
        ended = await drop.ended(2)
        assert sorted([(await drop.outputs(one))["content"] for one in ended]) == ["new", "old"]


async def test_only_regular_files_count(tmp_path: Path) -> None:
    outside = tmp_path / "outside.csv"
    outside.write_text("not yours")
    async with arrivals(tmp_path, flow()) as drop:
        (drop.inbox / "link").symlink_to(outside)
        (drop.inbox / "dangling").symlink_to(tmp_path / "nothing")
        os.mkfifo(drop.inbox / "pipe")
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(drop.inbox / "socket"))
            if os.geteuid() == 0:
                os.mknod(drop.inbox / "device", 0o20666, os.makedev(1, 5))  # /dev/zero never ends
            (drop.inbox / "folder").mkdir()
            drop.put("file", "yes")
            assert await content_of_next(drop) == "yes"
        await drop.until(lambda: drop.names("done") == ["file"])
        assert [event["name"] for event in await drop.events()] == ["file"]
        assert outside.read_text() == "not yours"


async def test_names_that_begin_with_a_dot_count_only_when_asked_for(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(), before={".a.csv.part": "x", "b": "y"}) as drop:
        assert await content_of_next(drop) == "y"
        await drop.until(lambda: drop.names("inbox") == [".a.csv.part"])
    async with arrivals(tmp_path, flow(f'pattern: ".*", {SOON}, {MOVES}')) as drop:
        assert await content_of_next(drop) == "x"


async def test_a_name_that_is_no_text_is_passed_over_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "inbox").mkdir()
    (Path(os.fsdecode(os.fsencode(tmp_path / "inbox") + b"/bad\xff"))).write_text("x")
    async with arrivals(tmp_path, flow(), before={"good": "y"}) as drop:
        assert await content_of_next(drop) == "y"
        assert drop.status().state == "running"
    assert "its name is not UTF-8" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["n" * 255, "n" * 251 + ".csv", "é" * 127, "x." + "s" * 253])
async def test_the_longest_names_are_taken_too(tmp_path: Path, name: str) -> None:
    async with arrivals(tmp_path, flow()) as drop:
        for content in ("one", "two"):
            drop.put(name, content)
            [ended] = await drop.ended()
            outputs = await drop.outputs(ended)
            assert (outputs["name"], outputs["content"]) == (name, content)
        await drop.until(lambda: len(drop.names("done")) == 2)


async def test_folders_below_count_when_asked_for_also_new_ones(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f"recursive: true, {SOON}, {MOVES}"), before={"x/a": "a"}) as drop:
        assert await content_of_next(drop) == "a"
        for name in ("x/y/b", "x/y/z/c", "new/d", "x/e"):
            drop.put(name, name)
            assert await content_of_next(drop) == name
        (drop.inbox / ".hidden").mkdir()
        (drop.inbox / ".hidden" / "f").write_text("f")
        drop.put("g", "g")
        assert await content_of_next(drop) == "g"
        assert (drop.inbox / ".hidden" / "f").exists()
        await drop.until(lambda: len(drop.names("done")) == 6)


async def test_a_folder_moved_in_brings_its_files(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f"recursive: true, {SOON}, {MOVES}")) as drop:
        (tmp_path / "ready" / "deep").mkdir(parents=True)
        for name in ("a", "deep/b"):
            (tmp_path / "ready" / name).write_text(name)
        (tmp_path / "ready").rename(drop.inbox / "batch")
        ended = await drop.ended(2)
        assert sorted([(await drop.outputs(one))["content"] for one in ended]) == ["a", "deep/b"]


async def test_a_pattern_with_a_slash_is_about_the_path(tmp_path: Path) -> None:
    before = {"a.csv": "a", "in/b.csv": "b", "out/c.csv": "c", "in/d.txt": "d"}
    more = f'recursive: true, pattern: "in/*.csv", {SOON}, {MOVES}'
    async with arrivals(tmp_path, flow(more), before=before) as drop:
        assert await content_of_next(drop) == "b"
    more = f'recursive: true, pattern: "**/*.csv", {SOON}, {MOVES}'
    async with arrivals(tmp_path, flow(more)) as drop:
        ended = await drop.ended(2)
        assert sorted([(await drop.outputs(one))["content"] for one in ended]) == ["a", "c"]


async def test_a_folder_that_is_deleted_and_made_again_is_watched_again(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f"rescan: PT0.1S, {SOON}, {MOVES}")) as drop:
        drop.put("a", "1")
        assert await content_of_next(drop) == "1"
        await drop.until(lambda: drop.names("done") == ["a"])
        for path in sorted(drop.inbox.rglob("*"), reverse=True):
            path.rmdir()
        drop.inbox.rmdir()
        await drop.until(lambda: not drop.inbox.exists())
        drop.inbox.mkdir()
        drop.put("b", "2")
        assert await content_of_next(drop) == "2"
        await drop.until(lambda: drop.names("done") == ["a", "b"])
        assert drop.status().failures == 0


async def test_a_second_name_of_a_file_counts_too(tmp_path: Path) -> None:
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / "one").write_text("same")
    os.link(tmp_path / "inbox" / "one", tmp_path / "inbox" / "two")
    async with arrivals(tmp_path, flow()) as drop:
        ended = await drop.ended(2)
        assert sorted([(await drop.outputs(one))["name"] for one in ended]) == ["one", "two"]
        await drop.until(lambda: drop.names("done") == ["one", "two"])


async def test_a_file_that_was_taken_and_is_moved_back_comes_again(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow()) as drop:
        drop.put("a", "x")
        await drop.ended()
        await drop.until(lambda: drop.names("done") == ["a"])
        (tmp_path / "done" / "a").rename(drop.inbox / "a")
        await drop.ended()
        assert len(await drop.events()) == 2


# keep


async def test_a_kept_file_comes_again_when_it_changes_and_only_then(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    more = f"{SOON}, rescan: PT0.1S, after: keep"
    async with arrivals(tmp_path, flow(more), before={"a": "one"}, storage=url) as drop:
        assert await content_of_next(drop) == "one"
        (drop.inbox / "a").write_text("two, longer")
        assert await content_of_next(drop) == "two, longer"
        (drop.inbox / "a").chmod(0o600)
        (drop.inbox / "a").rename(drop.inbox / "b")
        drop.put("c", "three")
        assert await content_of_next(drop) == "three"
        assert len(await drop.events()) == 3
    async with arrivals(tmp_path, storage=url) as drop:
        drop.put("d", "four")
        assert await content_of_next(drop) == "four"
        assert len(await drop.events()) == 4
        assert drop.names("inbox") == ["b", "c", "d"]


async def test_a_kept_file_that_changed_before_its_execution_ran_fails_that(
    tmp_path: Path, gates: Gates
) -> None:
    gates.put("a", "new, which is longer")
    source = gates.flow(f"{SOON}, after: keep").replace("tasks:", "concurrency: {limit: 1}\ntasks:", 1)
    async with arrivals(tmp_path, source) as drop:
        drop.put("a", "a")
        await gates.reached("a")
        drop.put("b", "old")
        await drop.emitted(2)
        drop.put("b", "new, which is longer")
        await drop.emitted(1)
        await gates.open("a", "new, which is longer")
        ended = await drop.ended(3)
        states = sorted(one.state.value for one in ended)
        assert states == ["FAILED", "SUCCESS", "SUCCESS"]
        [failed] = [one for one in ended if one.state is ExecutionState.FAILED]
        assert "was changed since it arrived" in (failed.error or "")


# who gets what


async def test_what_when_refuses_stays_where_it_is(tmp_path: Path) -> None:
    more = f"when: \"{{{{ trigger.name != 'no' }}}}\", rescan: PT0.1S, {SOON}, after: delete"
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    async with arrivals(tmp_path, flow(more), before={"no": "x"}, storage=url) as drop:
        drop.put("yes")
        await drop.ended()
        await drop.until(lambda: drop.names("inbox") == ["no"])
        drop.put("yes", "again")
        await drop.ended()
        assert [event["name"] for event in await drop.events()].count("no") == 1
    async with arrivals(tmp_path, storage=url) as drop:
        drop.put("yes", "and again")
        await drop.ended()
        await drop.until(lambda: drop.names("inbox") == ["no"])
        assert [event["name"] for event in await drop.events()].count("no") == 1


async def test_two_triggers_on_one_folder_never_get_the_same_file(tmp_path: Path) -> None:
    names = {f"f{number}": str(number) for number in range(60)}
    async with arrivals(tmp_path, before=names) as drop:
        for id in ("one", "two", "three"):
            recursive = "recursive: true, " if id == "three" else ""
            await drop.hub.put(flow(f"{recursive}{SOON}, {MOVES}").replace("id: drop", f"id: {id}", 1))
        for number in range(60, 120):
            drop.put(f"f{number}", str(number))
        ended = await drop.ended(120)
        assert all(one.state is ExecutionState.SUCCESS for one in ended)
        assert len(await drop.events()) == 120
        await drop.until(lambda: len(drop.names("done")) == 120)


async def test_two_triggers_that_keep_get_every_file(tmp_path: Path) -> None:
    async with arrivals(tmp_path, before={"a": "x"}) as drop:
        for id in ("one", "two"):
            await drop.hub.put(flow(f"{SOON}, after: keep").replace("id: drop", f"id: {id}", 1))
        ended = await drop.ended(2)
        assert {str(one.flow) for one in ended} == {"files/one", "files/two"}


async def test_the_folder_may_come_from_a_variable(tmp_path: Path) -> None:
    source = flow().replace("path: inbox", 'path: "{{ vars.folder }}"')
    source = source.replace("triggers:", "variables: {folder: inbox}\ntriggers:", 1)
    async with arrivals(tmp_path, source, before={"a": "x"}) as drop:
        assert await content_of_next(drop) == "x"


# mistakes


async def test_files_outside_the_roots_are_refused(tmp_path: Path) -> None:
    for path in ("/etc", "../outside", "inbox/../../outside"):
        async with arrivals(tmp_path, flow().replace("path: inbox", f"path: {path}")) as drop:
            await failing(drop)
            assert "outside the folders" in drop.status().error


@pytest.mark.parametrize("path", ["files", "work"])
async def test_the_hubs_own_folders_are_refused(tmp_path: Path, path: str) -> None:
    async with arrivals(tmp_path, flow().replace("path: inbox", f"path: {path}")) as drop:
        await failing(drop)
        assert "belongs to the hub itself" in drop.status().error


async def test_moving_into_the_folder_itself_is_refused(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f"{SOON}, after: {{move: inbox}}")) as drop:
        await failing(drop)
        assert "into the same folder" in drop.status().error


async def test_files_may_be_moved_to_the_folder_above(tmp_path: Path) -> None:
    source = flow(f"{SOON}, after: {{move: inbox}}").replace("path: inbox", "path: inbox/new")
    async with arrivals(tmp_path, source, before={"new/a": "x"}) as drop:
        await drop.ended()
        await drop.until(lambda: drop.names("inbox") == ["a"])


async def test_a_claim_folder_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "inbox").mkdir()
    (tmp_path / "inbox" / ".hub-claimed").symlink_to(tmp_path / "elsewhere")
    async with arrivals(tmp_path, flow(), before={"a": "x"}) as drop:
        await failing(drop)
        assert "symbolic link" in drop.status().error
        assert await drop.events() == []


async def test_a_claim_folder_that_others_can_write_is_refused(tmp_path: Path) -> None:
    (tmp_path / "inbox" / ".hub-claimed").mkdir(parents=True)
    (tmp_path / "inbox" / ".hub-claimed").chmod(0o777)
    async with arrivals(tmp_path, flow(), before={"a": "x"}) as drop:
        await failing(drop)
        assert "written by others" in drop.status().error


@pytest.mark.parametrize(
    "more",
    ["settle: P2D", "rescan: PT0S", 'pattern: ""', 'pattern: "/etc/*"', "after: burn", "after: {failed: x}"],
)
async def test_a_trigger_that_cannot_work_is_refused_when_the_flow_is_saved(
    tmp_path: Path, more: str
) -> None:
    async with arrivals(tmp_path) as drop:
        with pytest.raises(InvalidFlow):
            await drop.hub.put(flow(more))


async def failing(drop: Arrivals) -> None:
    while drop.status().state != "failing":
        await asyncio.sleep(0)
