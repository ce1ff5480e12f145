"""kill -9 at random moments: nothing acknowledged is lost, nothing happens twice, everything ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rounds import run_rounds

BUGS = ("answer-before-commit", "completed-not-skipped", "unique-key-dropped", "values-rendered-again")


@pytest.mark.timeout(300)
async def test_ten_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    ledger, wrong = await run_rounds(tmp_path, 10)
    print(
        f"kill -9 ledger: 10 kills, {ledger.sent} deliveries, {len(ledger.acknowledged)} acknowledged,"
        f" {len(ledger.calls)} task calls, {len(ledger.scheduled)} scheduled, {len(wrong)} promises broken"
    )
    assert not wrong, "\n".join(wrong[:20])
    assert len(ledger.acknowledged) > 30
    assert ledger.scheduled


@pytest.mark.faults
async def test_a_hundred_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    ledger, wrong = await run_rounds(tmp_path, 100)
    print(
        f"kill -9 ledger: 100 kills, {ledger.sent} deliveries, {len(ledger.acknowledged)} acknowledged,"
        f" {len(ledger.calls)} task calls, {len(ledger.scheduled)} scheduled, {len(wrong)} promises broken"
    )
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
async def test_the_same_rounds_find_a_planted_bug(tmp_path: Path, bug: str) -> None:
    _, wrong = await run_rounds(tmp_path, 10, bug=bug, stop_when_wrong=True)
    expected = {
        "answer-before-commit": ("lost", "never done"),
        "completed-not-skipped": ("ran again",),
        "unique-key-dropped": ("two executions", "events"),
        "values-rendered-again": ("rendered more than once",),
    }[bug]
    assert any(word in line for line in wrong for word in expected), wrong[:20]
