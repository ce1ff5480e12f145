"""The rate limit of a webhook: exact over every period, and bounded in memory."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from plugins_core.webhook.limits import RateLimit, Window


def test_over_the_limit_it_says_when_the_next_is_taken() -> None:
    limit, window = RateLimit(limit=2, per=timedelta(seconds=10)), Window()
    assert [window.take(limit, now) for now in (0.0, 4.0, 5.0, 9.0)] == [None, None, 5.0, 1.0]
    assert [window.take(limit, now) for now in (10.0, 11.0, 14.0)] == [None, 3.0, None]


@given(
    st.lists(st.integers(0, 200).map(lambda n: n / 4), max_size=60).map(sorted),
    st.integers(1, 5),
    st.integers(1, 10),
)
def test_no_period_holds_more_than_the_limit(moments: list[float], limit: int, period: int) -> None:
    rate, window = RateLimit(limit=limit, per=timedelta(seconds=period)), Window()
    taken = [moment for moment in moments if window.take(rate, moment) is None]
    for first in taken:
        assert sum(first <= moment < first + period for moment in taken) <= limit
    assert len(window._taken) <= limit


@pytest.mark.parametrize(
    "given", [{"limit": 0}, {"limit": 100_001}, {"limit": 1, "per": "PT0S"}, {"limit": 1, "per": "P2D"}]
)
def test_a_limit_without_bounds_is_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RateLimit.model_validate(given)
