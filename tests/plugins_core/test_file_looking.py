"""When a file counts as whole, on a clock of the test's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hub.plugin import Folders
from plugins_core.file.looking import LARGE, Arrived, Large, Later, Looker, has_a_writer

linux = pytest.mark.skipif(sys.platform != "linux", reason="read leases are Linux's")


class Clock:
    """Wall and monotonic time of one file: moments are given in seconds since it was last changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.age = 0.0

    def wall(self) -> float:
        return os.stat(self._path).st_ctime + self.age

    def monotonic(self) -> float:
        return self.age


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    return path


def look(looker: Looker, path: Path, *, renamed: bool = False, large: bool = True) -> object:
    with Folders() as folders:
        return looker.look(folders, path, renamed=renamed, large=large)


@linux
def test_a_file_is_whole_once_it_has_not_changed_for_the_time_to_settle(path: Path) -> None:
    clock = Clock(path)
    looker = Looker(2.0, with_change=True, wall=clock.wall, clock=clock.monotonic)
    clock.age = 0.5
    found = look(looker, path)
    assert isinstance(found, Later)
    assert found.seconds == pytest.approx(1.5, abs=0.01)
    clock.age = 2.01
    whole = look(looker, path)
    assert isinstance(whole, Arrived)
    assert whole.sha256 == hashlib.sha256(b"content").hexdigest()


@linux
def test_a_time_of_change_that_was_set_back_does_not_make_a_file_old(path: Path) -> None:
    # as cp -p, tar and rsync do when they have written a file
    os.utime(path, (0, 0))
    clock = Clock(path)
    clock.age = 0.5
    assert isinstance(look(Looker(2.0, with_change=True, wall=clock.wall), path), Later)


@linux
def test_a_clock_that_was_set_back_makes_nobody_whole(path: Path) -> None:
    clock = Clock(path)
    looker = Looker(2.0, with_change=True, wall=lambda: clock.wall() - 3600, clock=clock.monotonic)
    assert isinstance(look(looker, path), Later)
    clock.age = 1.9
    assert isinstance(look(looker, path), Later)
    clock.age = 2.1
    assert isinstance(look(looker, path), Arrived)


@linux
def test_an_open_handle_keeps_a_file_from_being_whole_however_old_it_is(path: Path) -> None:
    looker = Looker(2.0, with_change=True, wall=lambda: os.stat(path).st_ctime + 1e6)
    with path.open("a"):
        assert isinstance(look(looker, path), Later)
        assert isinstance(look(looker, path, renamed=True), Later)
    assert isinstance(look(looker, path), Arrived)


def test_a_renamed_file_is_whole_at_once(path: Path) -> None:
    assert isinstance(
        look(Looker(3600, with_change=True, has_writer=lambda _: False), path, renamed=True), Arrived
    )


def test_where_nothing_says_who_writes_a_file_must_stand_still_while_it_is_looked_at(path: Path) -> None:
    clock = Clock(path)
    looker = Looker(2.0, with_change=True, wall=clock.wall, clock=clock.monotonic, has_writer=lambda _: None)
    clock.age = 1e6
    for renamed in (False, True):
        assert look(looker, path, renamed=renamed) == Later(2.0)
    clock.age += 1.5
    path.write_bytes(b"another")
    assert isinstance(look(looker, path), Later)
    clock.age += 1.9
    assert isinstance(look(looker, path), Later)
    clock.age += 0.2
    assert isinstance(look(looker, path), Arrived)


def test_a_file_that_is_written_while_it_is_read_is_not_whole(path: Path) -> None:
    looks = iter([False, True])
    looker = Looker(0, with_change=True, has_writer=lambda _: next(looks))
    assert isinstance(look(looker, path), Later)


def test_a_file_that_changes_while_it_is_read_is_not_whole(path: Path) -> None:
    calls: list[int] = []

    def changes_at_first(_: int) -> bool:
        if not calls:
            path.write_bytes(b"another content")
        calls.append(1)
        return False

    looker = Looker(0, with_change=True, has_writer=changes_at_first)
    assert isinstance(look(looker, path), Later)
    assert isinstance(look(looker, path), Arrived)


def test_links_pipes_folders_and_what_is_gone_are_nothing(tmp_path: Path, path: Path) -> None:
    looker = Looker(0, with_change=True)
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "folder")
    (tmp_path / "folder" / "inside").write_text("x")
    for name in ("link", "pipe", "folder", "gone", "linked/inside", "file/x"):
        assert look(looker, tmp_path / name) is None, name
    assert isinstance(look(looker, tmp_path / "folder" / "inside"), Arrived)


def test_a_large_file_is_not_read_with_the_others(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(LARGE)
    looker = Looker(0, with_change=True)
    assert isinstance(look(looker, path, large=False), Large)
    assert isinstance(look(looker, path), Arrived)


def test_reading_stops_when_the_trigger_does(path: Path) -> None:
    looker = Looker(0, with_change=True)
    looker.stop()
    assert isinstance(look(looker, path), Later)


@linux
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_a_file_that_cannot_be_read_is_looked_at_again_and_said(tmp_path: Path, path: Path) -> None:
    tmp_path.chmod(0o755)
    path.chmod(0o600)
    (tmp_path / "readable").write_text("x")
    (tmp_path / "readable").chmod(0o644)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            folder = os.open(tmp_path, os.O_RDONLY)
            folders = Folders()
            folders._open[str(tmp_path)] = folder
            os.setuid(65534)
            found = Looker(0, with_change=True).look(folders, path)
            is_told = isinstance(found, Later) and "Permission denied" in (found.reason or "")
            # a lease is only given for one's own files
            theirs = os.open("readable", os.O_RDONLY, dir_fd=folder)
            code = 0 if is_told and has_a_writer(theirs) is None else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


_ASKS = """
import os, sys, time
sys.path.insert(0, sys.argv[2])
from plugins_core.file.looking import has_a_writer
handle = os.open(sys.argv[1], os.O_RDONLY)
answers = {True: 0, False: 0}
until = time.monotonic() + 1.0
while time.monotonic() < until:
    answers[has_a_writer(handle)] += 1
print(answers[True], answers[False])
"""
_WRITES = """
import os, sys, time
until = time.monotonic() + 1.5
while time.monotonic() < until:
    os.close(os.open(sys.argv[1], os.O_WRONLY))
"""


@linux
def test_one_who_opens_a_file_while_it_is_looked_at_does_not_end_the_hub(path: Path) -> None:
    # the kernel tells the holder of a lease of it by a signal, and the one it sends by itself is deadly
    root = str(Path(__file__).parent.parent.parent)
    writers = [subprocess.Popen([sys.executable, "-c", _WRITES, str(path)]) for _ in range(2)]
    asks = subprocess.run(
        [sys.executable, "-c", _ASKS, str(path), root], capture_output=True, text=True, check=False
    )
    for writer in writers:
        assert writer.wait() == 0
    assert asks.returncode == 0
    seen, unseen = map(int, asks.stdout.split())
    assert seen + unseen > 100
