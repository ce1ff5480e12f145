"""kill -9 among notices: none is lost, and none is told again but where an answer may have been lost (G9)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.notice_rounds import run_rounds

BUGS = {
    "notices-after-commit": "lost",
    "settled-before-sent": "lost",
    "notice-id-made-anew": "several ids",
}


@pytest.mark.timeout(300)
async def test_three_kills_among_200_notices_lose_none(tmp_path: Path) -> None:
    account = await run_rounds(tmp_path, kills=3, notices=200)
    print(f"notices: {account}")
    assert not account.wrong, "\n".join(account.wrong[:20])
    assert account.notices == 200


@pytest.mark.faults
async def test_twenty_kills_among_2000_notices_lose_none(tmp_path: Path) -> None:
    account = await run_rounds(tmp_path, kills=20, notices=2000)
    print(f"notices: {account}")
    assert not account.wrong, "\n".join(account.wrong[:20])
    assert account.notices == 2000


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS)
async def test_the_same_rounds_find_a_planted_bug(tmp_path: Path, bug: str) -> None:
    account = await run_rounds(tmp_path, kills=3, notices=200, bug=bug)
    assert any(BUGS[bug] in line for line in account.wrong), account
