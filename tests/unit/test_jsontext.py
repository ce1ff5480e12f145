"""JSON text: exact both ways, and nothing from outside that could not be stored and read again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.errors import InvalidInput
from hub.model import jsontext

_LONG = 12345678901234567890123


@pytest.mark.parametrize(
    "text",
    [
        '{"price": 1e400, "id": 1234567890123456789}',
        '{"price": 1e400}',
        f"[-1e999, {_LONG}]",
        f"[NaN, {_LONG}]",
        "[Infinity]",
        f'["\\ud800", {_LONG}]',
        f'{{"\\udc00": {_LONG}}}',
        '["\\ud800"]',
        f'["\ud800", {_LONG}]',
        b'["\xed\xa0\x80", 1234567890123456789012]',
        b'["\xff", 1234567890123456789012]',
        '{"a": 12345678901234567890'.encode("utf-16"),
        "[" * 1020 + str(_LONG) + "]" * 1020,
        "9" * 5000,
    ],
)
def test_what_could_not_be_stored_as_it_is_is_refused(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        jsontext.loads(text)


def test_long_numbers_and_whole_pairs_are_exact() -> None:
    value = {"n": _LONG, "small": -(2**63), "t": "\U0001f600", "f": 0.5, "many": int("9" * 400)}
    assert jsontext.loads(json.dumps(value)) == value
    assert jsontext.loads(jsontext.dumps(value)) == value


@pytest.mark.parametrize("inner", ["", f"{_LONG}", '"]]]]"', '"\\"[[["'])
@pytest.mark.parametrize("brackets", [("[", "]"), ('{"a":', "}")])
def test_what_comes_from_outside_is_nested_two_hundred_levels_at_most(
    inner: str, brackets: tuple[str, str]
) -> None:
    before, after = brackets
    inner = inner or ("1" if before != "[" else "")
    deepest = before * 200 + inner + after * 200
    assert jsontext.loads(jsontext.dumps(jsontext.loads_bounded(deepest))) == jsontext.loads(deepest)
    with pytest.raises(ValueError, match="200 levels"):
        jsontext.loads_bounded(before + deepest + after)


@pytest.mark.parametrize("depth", [199, 200, 201, 202])
@pytest.mark.parametrize(("before", "inner", "after"), [("[", "[]", "]"), ('{"":', "{}", "}")])
def test_the_shortest_text_of_a_depth_is_judged_by_its_depth(
    depth: int, before: str, inner: str, after: str
) -> None:
    raw = (before * (depth - 1) + inner + after * (depth - 1)).encode()
    for has_lists in {True, "[" in before}:
        if depth <= 200:
            jsontext.check_bounded(raw, has_lists=has_lists)
        else:
            with pytest.raises(ValueError, match="200 levels"):
                jsontext.check_bounded(raw, has_lists=has_lists)


def test_brackets_in_texts_and_beside_each_other_are_not_depth() -> None:
    wide = ["[" * 500, {"{{{": '"['}, *([] for _ in range(500))]
    assert jsontext.loads_bounded(json.dumps(wide)) == wide


def test_text_that_never_closes_is_judged_in_no_time() -> None:
    with pytest.raises(ValueError):
        jsontext.loads_bounded("[" * 300 + '"' + '\\"' * 500_000)


def test_what_no_json_can_hold_is_refused_in_words() -> None:
    with pytest.raises(InvalidInput, match="cannot be written"):
        jsontext.dumps([float("inf"), _LONG])
    assert jsontext.dumps(["\ud800"]) == '["?"]'


_SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(_LONG) | st.binary()


@given(st.dictionaries(st.text() | st.integers(), _SCALARS | st.lists(_SCALARS, max_size=2), max_size=10))
def test_what_is_flat_comes_back_from_its_text_as_it_is(value: dict[Any, Any]) -> None:
    if jsontext.is_flat(value):
        again = jsontext.loads(jsontext.dumps(value))
        assert again == value
        assert [type(one) for one in again.values()] == [type(one) for one in value.values()]
        assert len(jsontext.dumps(value)) < 32 * 1024


@pytest.mark.parametrize(
    ("value", "is_flat"),
    [
        ({"n": 1, "text": "ab", "yes": True, "nothing": None}, True),
        ({}, True),
        ({"n": 1.5}, False),
        ({"n": 2**60}, False),
        ({"text": "\ud800"}, False),
        ({"text": "a" * 501}, False),
        ({1: "one"}, False),
        ({"deep": {}}, False),
        ({str(n): n for n in range(9)}, False),
        ([1], False),
    ],
)
def test_few_short_texts_and_plain_numbers_are_flat(value: object, is_flat: bool) -> None:
    assert jsontext.is_flat(value) is is_flat
