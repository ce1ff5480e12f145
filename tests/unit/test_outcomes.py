"""Named outcomes: a task may raise them bare."""

from __future__ import annotations

from datetime import timedelta

import pytest

from hub.plugin import Fail, Failed, Outcome, Retry, Skip, Wait


@pytest.mark.parametrize("outcome", [Skip, Fail, Failed])
def test_an_outcome_may_be_raised_without_a_reason(outcome: type[Outcome]) -> None:
    with pytest.raises(outcome) as raised:
        raise outcome
    assert raised.value.reason == str(raised.value) != ""


def test_a_retry_needs_no_reason() -> None:
    assert Retry(after=timedelta(seconds=5)).reason == "to be tried again"


def test_a_given_reason_is_kept() -> None:
    assert Skip("no orders").reason == "no orders"
    assert Fail("no good", outputs={"a": 1}).outputs == {"a": 1}


def test_a_wait_says_for_what() -> None:
    with pytest.raises(TypeError, match="until= or execution="):
        Wait()
