"""Random trees under kill -9: they end as if nothing had happened, and nothing that was completed runs again."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from tests.faults.tree_rounds import run_tree_rounds


def _rounds(folder: Path, *, trees: int, kills: int, **given: Any) -> list[str]:
    seed = random.randrange(2**32)
    ledger, executions, wrong = run_tree_rounds(folder, trees=trees, kills=kills, seed=seed, **given)
    print(
        f"tree ledger: seed {seed}, {kills} kills, {executions} executions of {trees} trees,"
        f" {len(ledger.calls)} task calls, {len(wrong)} promises broken"
    )
    return wrong


@pytest.mark.timeout(300)
def test_random_trees_and_eight_kills(tmp_path: Path) -> None:
    wrong = _rounds(tmp_path, trees=6, kills=8)
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.faults
def test_random_trees_and_a_hundred_kills(tmp_path: Path) -> None:
    wrong = _rounds(tmp_path, trees=30, kills=100)
    assert not wrong, "\n".join(wrong[:20])


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("bug", "words"),
    [
        ("completed-not-skipped", ("ran again after",)),
        # which of what decides a path is hit first is chance: a loop's values, or the branch of an if or a switch
        ("values-rendered-again", ("rendered more than once", "is in two branches")),
        ("subflow-of-another-id", ("started twice",)),
    ],
)
def test_the_same_rounds_find_a_planted_bug(tmp_path: Path, bug: str, words: tuple[str, ...]) -> None:
    wrong = _rounds(tmp_path, trees=8, kills=6, bug=bug, patience=8)
    assert any(word in line for line in wrong for word in words), wrong[:20]
