"""Records, read without a broker: a line of a batch is what a record alone would be, and the same ones are refused."""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub.plugin import Bookmark, jsontext
from plugins_core.kafka.records import Reading, Unreadable, check_json, decoded
from plugins_core.kafka.standing import Recreated, Standing


class Record(NamedTuple):
    """As the client gives it."""

    value: bytes | None = b"1"
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic: str = "t"
    partition: int = 0
    offset: int = 7
    timestamp: int = 1_000


READING = Reading("string", "json", 10_000)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    value=VALUES,
    indent=st.sampled_from([None, 2]),
    header=st.booleans(),
    key=st.none() | st.text(),
    topic=st.text(alphabet="a.-_0", min_size=1),
)
def test_a_line_of_a_batch_is_what_the_record_alone_would_be(
    value: object, indent: int | None, header: bool, key: str | None, topic: str
) -> None:
    raw_key = None if key is None else key.encode()
    headers = (("h", b"1"),) if header else ()
    record = Record(json.dumps(value, indent=indent).encode(), raw_key, headers, topic, partition=3)
    text, unreadable = READING.lines([record])
    [line] = text.splitlines()
    assert not unreadable
    assert b"\n" not in line
    assert jsontext.loads(line) == READING.data(record)


def test_what_cannot_be_read_is_left_out_of_the_lines() -> None:
    records = [Record(b"{", offset=1), Record(b"2", offset=2), Record(b"x" * 10_001, offset=3)]
    text, unreadable = READING.lines(records)
    lines = text.splitlines()
    assert [jsontext.loads(line) for line in lines] == [READING.data(records[1])]
    assert [record.offset for record, _ in unreadable] == [1, 3]
    assert unreadable[0][1].startswith("its value is not JSON")
    assert "10,001 bytes" in unreadable[1][1]


def test_in_a_batch_too_what_is_nested_too_deep_is_left_out() -> None:
    deep = [b"[" * 201 + b"]" * 201, b'{"":' * 200 + b"{}" + b"}" * 200]
    sound = [b"[" * 200 + b"]" * 200, b'{"":' * 199 + b"{}" + b"}" * 199, b'{"flat":1}']
    for raws in ([*deep, *sound], [deep[1], sound[2]]):
        records = [Record(raw, offset=offset) for offset, raw in enumerate(raws)]
        text, unreadable = READING.lines(records)
        assert {record.value for record, _ in unreadable} == set(deep) & set(raws)
        assert [jsontext.loads(line) for line in text.splitlines()] == [
            READING.data(record) for record in records if record.value in sound
        ]


@given(
    raw=st.binary(max_size=50)
    | st.text().map(str.encode)
    | VALUES.map(lambda one: json.dumps(one).encode()[:-1])
)
def test_what_is_refused_alone_is_refused_in_a_batch(raw: bytes) -> None:
    assert refuses(lambda: check_json(raw)) == refuses(lambda: decoded(raw, "json", "value"))


@pytest.mark.parametrize(
    "raw",
    [
        b"9" * 400,
        b"[" * 201 + b"]" * 201,
        b"[" * 200 + b"]" * 200,
        b"1e400",
        b'"\\ud800"',
        b"NaN",
        b"",
        b'{"a":1} {',
    ],
    ids=["long", "too deep", "deep", "infinite", "half", "nan", "empty", "two"],
)
def test_the_edges_of_json_are_the_same_both_ways(raw: bytes) -> None:
    assert refuses(lambda: check_json(raw)) == refuses(lambda: decoded(raw, "json", "value"))


def refuses(read: object) -> str | None:
    try:
        read()  # type: ignore[operator]
    except Unreadable as error:
        return str(error)
    return None


# -- where a partition stands


def standing(next: int, hash: Record | None) -> Standing:
    known = Standing(Bookmark("t/0"), 0)
    return Standing(Bookmark("t/0"), next, 1, known.state_after(hash)["hash"] if hash is not None else None)


def test_the_record_before_the_next_one_tells_whether_the_topic_is_the_same() -> None:
    old = Record(b"old", offset=6)
    same = standing(7, old)
    assert same.begins_at == 6
    assert list(same.new_ones([old, Record(offset=7)])) == [Record(offset=7)]
    with pytest.raises(Recreated) as raised:
        standing(7, old).new_ones([Record(b"new", offset=6), Record(offset=7)])
    assert raised.value.is_certain


def test_a_record_before_it_that_is_gone_tells_nothing() -> None:
    known = standing(7, Record(b"old", offset=6))
    assert list(known.new_ones([Record(offset=9)])) == [Record(offset=9)]


def test_a_log_that_ends_below_what_was_read_is_another_one() -> None:
    known = standing(7, None)
    known.check_end(7)
    with pytest.raises(Recreated):
        known.check_end(6)


def test_an_incarnation_moves_on_with_its_number() -> None:
    known = standing(7, Record(offset=6))
    known.begin_again(0)
    state = known.state_after(Record(offset=0))
    known.move(state)
    assert (state["incarnation"], known.next, known.bookmark.version) == (2, 1, 1)
    assert Standing.stored(known.bookmark) is not None
