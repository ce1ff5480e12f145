"""Files while their executions run and afterwards: changed flows, replays, names that are taken, other file systems."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from hub.model.execution import ExecutionState
from hub.model.ids import TriggerKey
from hub.plugin import Folders, NotFound
from plugins_core.file.claims import After, ClaimFolder, claim, fetch_back
from plugins_core.file.marks import Mark
from plugins_core.file.moving import Names, move_into
from tests.support.arrivals import MOVES, SOON, Arrivals, Gates, arrivals, flow
from tests.support.swapping import swapping

FAILS = """id: drop
namespace: files
triggers:
  - {{id: arrived, type: file.arrival, path: inbox, {more}}}
tasks:
  - {{id: fail, type: execution.fail, when: "{{{{ trigger.name contains 'bad' }}}}", message: no}}
"""
KEY = "0123456789abcdef0123456789abcdef"


async def put_away(drop: Arrivals, folder: str, *names: str) -> None:
    await drop.until(lambda: drop.names(folder) == sorted(names) and not drop.claimed())


# where after says


async def test_files_of_failed_executions_go_to_their_own_folder(tmp_path: Path) -> None:
    async with arrivals(
        tmp_path, FAILS.format(more=f"{SOON}, {MOVES}"), before={"good": "1", "bad": "2"}
    ) as drop:
        await drop.ended(2)
        await put_away(drop, "done", "good")
        await put_away(drop, "failed", "bad")


async def test_without_a_folder_of_their_own_they_go_with_the_others(tmp_path: Path) -> None:
    async with arrivals(
        tmp_path, FAILS.format(more=f"{SOON}, after: {{move: a/b/done}}"), before={"bad": "2"}
    ) as drop:
        await drop.ended()
        await put_away(drop, "a/b/done", "bad")


async def test_delete_deletes_however_they_ended(tmp_path: Path) -> None:
    before = {"good": "1", "bad": "2"}
    async with arrivals(tmp_path, FAILS.format(more=f"{SOON}, after: delete"), before=before) as drop:
        await drop.ended(2)
        await drop.until(lambda: drop.names("inbox") == [])


async def test_a_file_whose_execution_was_cancelled_by_its_limit_has_failed(
    tmp_path: Path, gates: Gates
) -> None:
    gates.put("first")
    source = gates.flow().replace("tasks:", "concurrency: {limit: 1, behavior: CANCEL}\ntasks:", 1)
    async with arrivals(tmp_path, source) as drop:
        drop.put("a", "first")
        await gates.reached("first")
        drop.put("b", "second")
        await put_away_of(drop, "failed", "b")
        await gates.open("first")
        await put_away(drop, "done", "a")


async def put_away_of(drop: Arrivals, folder: str, name: str) -> None:
    await drop.until(lambda: name in drop.names(folder))


async def test_a_file_is_put_away_when_every_execution_of_its_event_has_ended(
    tmp_path: Path, gates: Gates
) -> None:
    gates.put("x")
    other = gates.flow().replace("id: drop", "id: other", 1)
    other = other.replace(
        f"type: file.arrival, path: inbox, {SOON}, {MOVES}", "type: event.matched, event: hub.file.arrived"
    )
    async with arrivals(tmp_path, flow()) as drop:
        await drop.hub.put(other.replace("{SOON}", ""))
        drop.put("a", "x")
        [first] = await drop.ended()
        assert str(first.flow) == "files/drop"
        await gates.reached("x")
        drop.put("b", "y")
        await drop.ended(2)
        await put_away_of(drop, "done", "b")
        assert len(drop.claimed()) == 1
        await gates.open("x")
        await put_away(drop, "done", "a", "b")


async def test_what_cannot_be_put_away_is_tried_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "done").write_text("a file where the folder should be")
    async with arrivals(tmp_path, flow(), before={"a": "1"}) as drop:
        await drop.ended()
        said: list[str] = []

        def is_said() -> bool:
            said.append(capsys.readouterr().out)
            return "cannot be put away" in "".join(said)

        await drop.until(is_said)
        drop.put("b", "2")
        await drop.ended()
        assert len(drop.claimed()) == 2
        (tmp_path / "done").unlink()
        await put_away(drop, "done", "a", "b")
        assert drop.status().state == "running"


# flows that change


async def test_files_of_a_flow_that_was_retired_are_put_away(tmp_path: Path, gates: Gates) -> None:
    gates.put("x")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x"}) as drop:
        await gates.reached("x")
        await drop.retire()
        await gates.open("x")
        await drop.ended()
        await put_away(drop, "done", "a")


async def test_files_of_a_flow_that_was_retired_are_put_away_after_a_restart(
    tmp_path: Path, gates: Gates
) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    gates.put("x")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x"}, storage=url) as drop:
        await gates.reached("x")
        await drop.retire()
    await gates.open("x")
    gates.put_again("x")
    async with arrivals(tmp_path, storage=url) as drop:
        await gates.open("x")
        [ended] = await drop.ended()
        assert ended.state is ExecutionState.SUCCESS
        await put_away(drop, "done", "a")


async def test_files_are_put_where_a_changed_flow_says(tmp_path: Path, gates: Gates) -> None:
    gates.put("x", "y")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x"}) as drop:
        await gates.reached("x")
        await drop.hub.put(gates.flow(f"{SOON}, after: {{move: elsewhere}}"))
        drop.put("b", "y")
        await gates.open("x", "y")
        await drop.ended(2)
        await put_away(drop, "elsewhere", "a", "b")


async def test_files_of_a_folder_that_is_watched_no_more_are_put_away(tmp_path: Path, gates: Gates) -> None:
    gates.put("x")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x"}) as drop:
        await gates.reached("x")
        await drop.hub.put(gates.flow().replace("path: inbox", "path: outbox"))
        await gates.open("x")
        await drop.ended()
        await put_away(drop, "done", "a")


async def test_a_disabled_trigger_takes_nothing_and_what_it_took_is_put_away(
    tmp_path: Path, gates: Gates
) -> None:
    gates.put("x")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x"}) as drop:
        await gates.reached("x")
        await drop.hub.put(gates.flow(f"disabled: true, {SOON}, {MOVES}"))
        drop.put("b", "y")
        await gates.open("x")
        await drop.ended()
        await put_away(drop, "done", "a")
        await drop.hub.put(gates.flow())
        await drop.ended()
        await put_away(drop, "done", "a", "b")


async def test_a_restart_puts_away_what_ended_and_waits_for_the_rest(tmp_path: Path, gates: Gates) -> None:
    url = f"sqlite:///{tmp_path / 'hub.db'}"
    gates.put("x")
    async with arrivals(tmp_path, gates.flow(), before={"a": "x", "b": "y"}, storage=url) as drop:
        await drop.ended()
        await gates.reached("x")
    gates.put_again("x")
    async with arrivals(tmp_path, storage=url) as drop:
        await put_away_of(drop, "done", "b")
        await gates.open("x")
        await drop.ended()
        await put_away(drop, "done", "a", "b")


# replays


@pytest.mark.parametrize("name", ["good", "bad"])
async def test_a_replay_fetches_its_file_back_and_it_is_put_away_again(tmp_path: Path, name: str) -> None:
    source = FAILS.format(more=f"{SOON}, {MOVES}") + (
        '  - {id: read, type: file.read, path: "{{ trigger.path }}"}\n'
    )
    source = source.replace(
        "tasks:\n", 'tasks:\n  - {id: first, type: file.read, path: "{{ trigger.path }}"}\n'
    )
    folder = "done" if name == "good" else "failed"
    async with arrivals(tmp_path, source, before={name: "content"}) as drop:
        [ended] = await drop.ended()
        await put_away(drop, folder, name)
        again = drop.hub.node.again
        for _ in range(3):
            replayed = (await again.replay(ended.id)).execution
            assert (await drop.hub.ended(replayed.id)).state is ended.state
            runs = await drop.hub.task_runs(replayed.id)
            assert runs["first"].outputs is not None
            assert runs["first"].outputs["content"] == "content"
            await put_away(drop, folder, name)
        assert ended.event_id is not None
        receipt = await again.replay_event(ended.event_id)
        assert (await drop.hub.ended(receipt.execution_ids[0])).state is ended.state
        await put_away(drop, folder, name)
        if name == "bad":
            await again.restart(ended.id)
            drop.hub.node.dispatcher.poke()
            await drop.hub.ended(ended.id)
            await put_away(drop, folder, name)


async def test_replays_side_by_side_share_the_file(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(), before={"a": "content"}) as drop:
        [ended] = await drop.ended()
        for _ in range(5):
            replays = [await drop.hub.node.again.replay(ended.id) for _ in range(8)]
            for one in replays:
                assert (await drop.hub.ended(one.execution.id)).state is ExecutionState.SUCCESS
        await put_away(drop, "done", "a")


@pytest.mark.parametrize("what", ["changed", "gone", "deleted by after"])
async def test_a_replay_without_its_file_fails_and_says_so(tmp_path: Path, what: str) -> None:
    more = f"{SOON}, after: delete" if what == "deleted by after" else f"{SOON}, {MOVES}"
    async with arrivals(tmp_path, flow(more), before={"a": "content"}) as drop:
        [ended] = await drop.ended()
        await drop.until(lambda: not drop.claimed())
        if what == "changed":
            (tmp_path / "done" / "a").write_text("CONTENT")
        if what == "gone":
            (tmp_path / "done" / "a").unlink()
        replayed = (await drop.hub.node.again.replay(ended.id)).execution
        again = await drop.hub.ended(replayed.id)
        assert again.state is ExecutionState.FAILED
        assert "a is not there any more: it was changed, moved or deleted" in (again.error or "")


async def test_a_kept_file_that_changed_cannot_be_replayed(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(f"{SOON}, after: keep"), before={"a": "content"}) as drop:
        [ended] = await drop.ended()
        await drop.hub.ended((await drop.hub.node.again.replay(ended.id)).execution.id)
        (drop.inbox / "a").write_text("CONTENT")
        replayed = await drop.hub.ended((await drop.hub.node.again.replay(ended.id)).execution.id)
        assert "was changed since it arrived" in (replayed.error or "")


async def test_a_flow_may_take_its_file_away_and_go_on_later(tmp_path: Path) -> None:
    source = flow() + "  - {id: x, type: STRING, value: x}\n"
    tasks = """tasks:
  - {id: take, type: file.move, source: "{{ trigger.path }}", target: "taken/{{ trigger.name }}"}
  - {id: rest, type: flow.sleep, duration: PT0.05S}
  - {id: read, type: file.read, path: "taken/{{ trigger.name }}"}
"""
    source = source.replace('tasks:\n  - {id: read, type: file.read, path: "{{ trigger.path }}"}\n', tasks)
    async with arrivals(tmp_path, source, before={"a": "content"}) as drop:
        [ended] = await drop.ended()
        assert (await drop.outputs(ended))["content"] == "content"
        assert drop.names("taken") == ["a"]
        assert drop.claimed() == []


async def test_nothing_is_moved_on_the_word_of_made_up_data(tmp_path: Path) -> None:
    async with arrivals(tmp_path, flow(), before={"a": "content"}) as drop:
        await drop.ended()
        await put_away(drop, "done", "a")
        [data] = await drop.events()
        victim = tmp_path / "victim"
        victim.write_text("mine")
        mark = Mark.of(victim.stat(), with_change=True)
        inside = tmp_path / "inbox" / ".hub-claimed" / "files.drop.arrived"
        for source, target in (
            (victim, inside / f"{mark.key}-victim"),
            (tmp_path / "inbox" / ".." / "victim", inside / f"{mark.key}-victim"),
            (victim, tmp_path / "stolen"),
        ):
            forged = {**data, "source": str(source), "path": str(target), "mark": mark.text, "name": "victim"}
            started = await drop.hub.start("files/drop", trigger="arrived", data=forged)
            found = await drop.hub.ended(started.id)
            assert found.state is ExecutionState.FAILED
            assert victim.read_text() == "mine"
        by_hand = await drop.hub.start(
            "files/drop", trigger="arrived", data={"path": str(victim), "name": "v"}
        )
        assert (await drop.hub.ended(by_hand.id)).state is ExecutionState.SUCCESS
        outside = await drop.hub.start("files/drop", trigger="arrived", data={"path": "/etc/passwd"})
        assert "outside the folders" in ((await drop.hub.ended(outside.id)).error or "")


# claiming, step by step


@pytest.fixture
def at(tmp_path: Path) -> ClaimFolder:
    (tmp_path / "inbox").mkdir(exist_ok=True)
    return ClaimFolder(tmp_path / "inbox", TriggerKey("ns", "flow", "trigger"))


def dropped(at: ClaimFolder, content: str = "content") -> tuple[Path, Path, Mark]:
    source = at.root / "a.csv"
    source.write_text(content)
    mark = Mark.of(source.stat(), with_change=True)
    return source, at.paths_of([(source, mark.key)])[0], mark


def claimed(at: ClaimFolder, source: Path, target: Path, mark: Mark) -> bool:
    with Folders() as folders:
        return claim(folders, at, source, target, mark)


def test_a_claim_may_be_made_again(at: ClaimFolder) -> None:
    source, target, mark = dropped(at)
    assert claimed(at, source, target, mark)
    assert claimed(at, source, target, mark)
    assert target.read_text() == "content"
    assert not source.exists()
    assert target.parent.stat().st_mode & 0o777 == 0o700


def test_a_file_that_was_replaced_since_its_event_is_left_alone(at: ClaimFolder) -> None:
    source, target, mark = dropped(at)
    other = at.root / "new"
    other.write_text("another")
    other.rename(source)
    assert not claimed(at, source, target, mark)
    assert source.read_text() == "another"


def test_a_file_whose_mode_alone_changed_is_still_the_same(at: ClaimFolder) -> None:
    source, target, mark = dropped(at)
    source.chmod(0o600)
    assert claimed(at, source, target, mark)


def test_a_file_that_somebody_opened_since_its_event_is_put_back(at: ClaimFolder) -> None:
    source, target, mark = dropped(at)
    with source.open("a"):
        assert not claimed(at, source, target, mark)
        assert source.exists()
    assert not target.exists()


def test_a_link_in_the_place_of_a_folder_is_not_followed(at: ClaimFolder, tmp_path: Path) -> None:
    (at.root / "sub").mkdir()
    inside = at.root / "sub" / "secret"
    inside.write_text("content")
    mark = Mark.of(inside.stat(), with_change=True)
    [target] = at.paths_of([(inside, mark.key)])
    (at.root / "sub").rename(tmp_path / "outside")
    (at.root / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(Exception, match="symbolic link"):
        claimed(at, inside, target, mark)
    assert (tmp_path / "outside" / "secret").exists()


def test_what_a_crash_left_between_link_and_unlink_is_finished(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("x")
    (tmp_path / "done").mkdir()
    os.link(source, tmp_path / "done" / "a.csv")
    with Folders() as folders:
        move_into(folders, source, tmp_path / "done", Names("a.csv", KEY))
    assert os.listdir(tmp_path / "done") == ["a.csv"]
    assert not source.exists()


def test_no_name_that_is_taken_is_ever_replaced(tmp_path: Path) -> None:
    with Folders() as folders:
        for content in ("1", "2", "3"):
            source = tmp_path / "source"
            source.write_text(content)
            move_into(folders, source, tmp_path / "done", Names("a.tar.gz", KEY))
        source.write_text("4")
        with pytest.raises(FileExistsError):
            move_into(folders, source, tmp_path / "done", Names("a.tar.gz", KEY))
    found = {path.name: path.read_text() for path in (tmp_path / "done").iterdir()}
    assert found == {"a.tar.gz": "1", "a.tar.01234567.gz": "2", f"a.tar.{KEY}.gz": "3"}
    assert source.read_text() == "4"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder on another file system."""
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    with TemporaryDirectory(dir="/dev/shm") as folder:
        yield Path(folder)


def test_a_file_moves_to_another_file_system_and_back(at: ClaimFolder, elsewhere: Path) -> None:
    source, target, mark = dropped(at)
    os.utime(source, ns=(1, 2_000_000_000))
    mark = Mark.of(source.stat(), with_change=True)
    [target] = at.paths_of([(source, mark.key)])
    assert claimed(at, source, target, mark)
    after = After(elsewhere / "done", elsewhere / "failed")
    (elsewhere / "failed").mkdir()
    (elsewhere / "failed" / "a.csv").write_text("was here before")
    with Folders() as folders:
        after.apply(folders, target, is_failure=True)
        after.apply(folders, target, is_failure=True)
    names = sorted(path.name for path in (elsewhere / "failed").iterdir())
    assert names == sorted(["a.csv", f"a.{mark.key[:8]}.csv"])
    moved = elsewhere / "failed" / f"a.{mark.key[:8]}.csv"
    assert moved.stat().st_mtime_ns == 2_000_000_000
    assert (elsewhere / "failed" / "a.csv").read_text() == "was here before"
    sha256 = "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"
    with Folders() as folders:
        fetch_back(folders, at, target, after, sha256)
        fetch_back(folders, at, target, after, sha256)
    assert target.read_text() == "content"
    assert not moved.exists()


def test_what_a_crash_left_between_copy_and_unlink_is_finished(tmp_path: Path, elsewhere: Path) -> None:
    source = tmp_path / f"{KEY}-a.csv"
    source.write_text("content")
    copy = elsewhere / "a.csv"
    copy.write_text("content")
    os.utime(copy, ns=(1, source.stat().st_mtime_ns))
    # what a copy that was cut off left
    (elsewhere / f".{source.name}.part").write_text("cont")
    with Folders() as folders:
        move_into(folders, source, elsewhere, Names("a.csv", KEY))
    assert [path.name for path in elsewhere.iterdir() if path.suffix != ".part"] == ["a.csv"]
    assert not source.exists()


def test_a_link_among_the_claimed_is_not_copied(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "link").symlink_to(tmp_path / "secret")
    with Folders() as folders, pytest.raises(OSError, match=r"Too many levels"):
        move_into(folders, tmp_path / "link", elsewhere, Names("a", KEY))
    assert list(elsewhere.iterdir()) == []


def test_a_file_that_holds_something_else_is_not_fetched_back(at: ClaimFolder, tmp_path: Path) -> None:
    _, target, _ = dropped(at)
    (tmp_path / "done").mkdir()
    (tmp_path / "done" / "a.csv").write_text("something else")
    with Folders() as folders, pytest.raises(NotFound):
        fetch_back(folders, at, target, After(tmp_path / "done"), "0" * 64)
    assert (tmp_path / "done" / "a.csv").exists()


async def test_an_execution_that_asks_while_its_file_is_put_away_gets_it_back(tmp_path: Path) -> None:
    # replays that begin at the very moment in which the file leaves, many times
    async with arrivals(tmp_path, flow(), before={"a": "content"}) as drop:
        [ended] = await drop.ended()
        for number in range(40):
            replayed = (await drop.hub.node.again.replay(ended.id)).execution
            assert (await drop.hub.ended(replayed.id)).state is ExecutionState.SUCCESS, number
            await asyncio.sleep(number / 1000)
        await put_away(drop, "done", "a")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names at once")
async def test_a_link_that_is_swapped_in_meanwhile_leads_nobody_outside(tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    theirs = {f"f{number}" for number in range(30)}
    for name in theirs:
        (outside / name).write_text("secret")
    (tmp_path / "inbox" / "sub").mkdir(parents=True)
    ours = [f"g{number}" for number in range(30)]
    more = f"recursive: true, rescan: PT0.1S, {SOON}, {MOVES}"
    async with arrivals(tmp_path, flow(more)) as drop:
        with swapping(tmp_path / "inbox" / "sub", outside):
            for name in ours:
                (tmp_path / "part").write_text("mine")
                with suppress(OSError):
                    os.link(tmp_path / "part", tmp_path / "inbox" / "sub" / name)
                (tmp_path / "part").unlink()
                drop.put(f"beside-{name}", "mine")
                await drop.ended()
        left = {*os.listdir(outside)} - theirs
        assert theirs <= {*os.listdir(outside)}
        assert all((outside / name).read_text() == "secret" for name in theirs)
        # one whose folder was a link when it was to be claimed has failed, and is put away when it is found again
        await drop.until(lambda: len(drop.names("done") + drop.names("failed")) == 60 - len(left))
        assert {event["sha256"] for event in await drop.events()} == {hashlib.sha256(b"mine").hexdigest()}
