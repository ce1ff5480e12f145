"""Files under kill -9, a hub that stands still and crashes at every step: each is one event, whole, and put away."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.faults.file_rounds import FileRound

_SOME = 25


@pytest.fixture
def round(tmp_path: Path) -> Iterator[FileRound]:
    made = FileRound(tmp_path)
    yield made
    made.hub.stop()


@pytest.mark.timeout(300)
def test_three_thousand_files_and_four_kills(round: FileRound) -> None:
    round.maker.drop(2_000)
    with round.bringing(1_000):
        for _ in range(4):
            round.start()
            time.sleep(round.chance.uniform(0.2, 1.5))
            round.kill()
    round.start()
    outcome = round.finish()
    print(outcome.line())
    assert not outcome.wrong, outcome.wrong[:20]
    assert len(outcome.brought.stayed) > 2_500


@pytest.mark.faults
def test_fifty_thousand_files_twenty_kills_and_a_watcher_that_runs_over(round: FileRound) -> None:
    round.maker.drop(22_000)
    with round.bringing(12_000, hands=6):
        for _ in range(20):
            round.start()
            time.sleep(round.chance.uniform(0.2, 4.0))
            round.kill()
    round.start()
    for _ in range(2):
        with round.stopped():
            # inotify keeps 16,384 hints; each file here is at least two
            round.maker.drop(9_000)
    outcome = round.finish()
    print(outcome.line())
    assert not outcome.wrong, outcome.wrong[:20]
    assert len(outcome.brought.stayed) >= 50_000


@pytest.mark.timeout(300)
def test_files_brought_in_every_manner_to_a_hub_that_listens(round: FileRound) -> None:
    round.start()
    with round.bringing(200):
        pass
    outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "point",
    [
        "between-row-and-rename",
        "amid-the-renames",
        "between-end-and-after",
        "amid-the-after",
        "between-link-and-unlink",
    ],
)
def test_a_crash_at_any_step_is_finished_at_the_next_start(round: FileRound, point: str) -> None:
    round.maker.drop(_SOME)
    round.crash(point)
    round.start()
    outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]
    assert outcome.events == _SOME


@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", ["amid-a-copy", "between-copy-and-unlink"])
def test_a_crash_on_the_way_to_another_file_system_is_finished_too(tmp_path: Path, point: str) -> None:
    if not os.path.isdir("/dev/shm") or os.stat("/dev/shm").st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no other file system here")
    with TemporaryDirectory(dir="/dev/shm") as elsewhere:
        round = FileRound(tmp_path, elsewhere=Path(elsewhere))
        round.maker.drop(_SOME)
        round.crash(point)
        round.start()
        outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]


@pytest.mark.timeout(300)
def test_files_that_change_between_their_event_and_their_claim_are_other_files(round: FileRound) -> None:
    round.maker.drop(_SOME)
    round.crash("between-row-and-rename")
    brought = round.maker.brought
    old, brought.stayed = set(brought.stayed), {}
    for path in sorted(round.inbox.glob("*.csv")):
        path.unlink()
    round.maker.drop(_SOME)
    brought.replaced |= old
    round.start()
    outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]
    assert outcome.events == 2 * _SOME


@pytest.mark.timeout(300)
def test_hints_that_were_lost_do_no_harm(tmp_path: Path) -> None:
    round = FileRound(tmp_path, more="rescan: P1D")
    round.start()
    round.maker.drop(1)
    round.settled()
    with round.stopped():
        # what is told of these two fills the kernel's queue, so that nothing is told of what follows
        for number in range(20_000):
            os.close(os.open(round.inbox / f"noise-{number % 2}", os.O_WRONLY | os.O_CREAT))
        round.maker.drop(_SOME)
    outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]


@pytest.mark.timeout(300)
def test_without_inotify_files_are_looked_for(tmp_path: Path) -> None:
    round = FileRound(tmp_path, more="rescan: PT0.2S")
    round.start("no-inotify")
    round.maker.bring(_SOME)
    outcome = round.finish()
    assert not outcome.wrong, outcome.wrong[:20]
    assert "cannot be heard" in round.hub.log.read_text()


@pytest.mark.timeout(300)
def test_the_account_finds_files_that_were_taken_in_part(round: FileRound) -> None:
    round.start("part-taken")
    round.maker.bring(60)
    assert any("part of a file" in line for line in round.finish(patience=10).wrong)


@pytest.mark.timeout(300)
def test_the_account_finds_files_that_were_claimed_before_they_were_stored(round: FileRound) -> None:
    round.maker.drop(_SOME)
    round.crash("rename-before-row")
    round.start()
    assert any("gave 0 events" in line for line in round.finish(patience=5).wrong)


@pytest.mark.timeout(300)
def test_the_account_finds_files_that_gave_two_events(round: FileRound) -> None:
    round.maker.drop(_SOME)
    round.crash("between-row-and-rename")
    round.start("key-forgotten")
    assert any("gave 2 events" in line for line in round.finish(patience=5).wrong)
