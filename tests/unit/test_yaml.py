"""YAML: 1.2's readings, places, and bounds that hold against bombs."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from hub.config.yaml import parse
from hub.errors import InvalidFlow

_ALIASES = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{letter}: &{letter} [{','.join(['*' + before] * 9)}]\n"
    for before, letter in zip("abcdefghi", "bcdefghij", strict=True)
)
_MERGES = (
    "base: &base {"
    + ", ".join(f"k{n}: {n}" for n in range(400))
    + "}\nall:\n"
    + "".join(f"  - {{<<: [{', '.join(['*base'] * 60)}], n: {n}}}\n" for n in range(100))
)
BOMBS = {
    "merge keys, 43 kB": (_MERGES + "#" * 43_000)[:43_000],
    "5,000 lists deep": "[" * 5000 + "]" * 5000,
    "5,000 mappings deep": "{a: " * 5000 + "1" + "}" * 5000,
    "5,000 blocks deep": "\n".join(" " * n + "- " for n in range(1200)),
    "ten levels of aliases": _ALIASES,
    "itself": "a: &a [*a]",
    "over 1 MiB": "a: " + "x" * 1024 * 1024,
    "a long number": "a: " + "9" * 100_000,
    "a long hexadecimal number": "a: 0x" + "f" * 900_000,
    "one key again and again": "a: 1\n" * 48_000,
    "tags that are not allowed": "[" + ",".join(["!a x"] * 99_000) + "]",
    "keys that are no text": "? []\n: 1\n" * 30_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_under_fifty_milliseconds(name: str) -> None:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(InvalidFlow):
            parse(BOMBS[name])
        times.append(time.perf_counter() - began)
    assert min(times) < 0.05


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"), ("on", "on"), ("yes", "yes"), ("true", True), ("~", None), ("", None), ("0o17", 15), ("017", 17),
        ("0x1F", 31), ("1e3", 1000.0), ("1_000", "1_000"), ("2026-01-01", "2026-01-01"), ("12:30", "12:30"),
        ("'true'", "true"), ("!!str 5", "5"), ("! 5", "5"), ("!!int '5'", 5), ("!!float 5", 5.0), ("!!bool true", True),
        ("!!null ''", None), ("!!map {}", {}), ("!!seq []", []), ("!<tag:yaml.org,2002:str> 5", "5"), ("18446744073709551617", 2**64 + 1),
    ],
)  # fmt: skip
def test_scalars_are_read_as_yaml_1_2_does(text: str, value: Any) -> None:
    assert parse(f"a: {text}").root.plain() == {"a": value}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a: 1\nb: 2\na: 3", 'duplicate key "a"'),
        ("a: {<<: {b: 1}}", "merge keys"),
        ("a: !!python/object:os.system x", "is not allowed"),
        ("a: {{ x }}", "a key must be text"),
        ("a: !!int x", "!!int does not fit 'x'"),
        ("a: !!bool yes", "!!bool does not fit 'yes'"),
        ("a: !!map [b]", "the tag !!map is not allowed"),
        ("a: !!set {b}", "the tag !!set is not allowed"),
        ("a: !foo 5", "the tag !foo is not allowed"),
    ],
)
def test_what_is_no_plain_data_is_a_problem(source: str, message: str) -> None:
    assert message in parse(source).problems[0].message


@pytest.mark.parametrize(
    ("source", "message", "line"),
    [
        ("a:\n\t- b", "not YAML", 2),
        ("a: 1\n---\nb: 2", "second document", 2),
        ("", "empty", 1),
        ("a: .inf", "JSON number", 1),
    ],
)
def test_what_cannot_be_read_says_where(source: str, message: str, line: int) -> None:
    with pytest.raises(InvalidFlow) as caught:
        parse(source)
    assert message in caught.value.problems[0].message
    assert caught.value.problems[0].position.line == line


@pytest.mark.parametrize(
    "source",
    ['a: "x\\n {{ foo }}"', "a: 'it''s {{ foo }}'", "a: |\n  one\n    {{ foo }}\n", "a: >\n  some\n  text {{ foo }} on\n",
     "a: plain {{ foo }} text", 'a: "two\n   lines {{ foo }}"', "a: &m '{{ foo }}'", "a: !!str &m x {{ foo }}",
     "a: &m !!str # why\n  'x {{ foo }}'", "a: |2\n    lead {{ foo }}\n", "b: 2\na: |2-\n\n     two\n   {{ foo }}",
     "a: >2\n     more\n    {{ foo }}\n", "b: 'x\u2028y'\na: '{{ foo }}'", "b: 1\r\na: '{{ foo }}'", "b: 1\r\na: |\r\n  x\r\n  {{ foo }}\r\n"],
)  # fmt: skip
def test_a_place_inside_a_text_is_a_place_in_the_file(source: str) -> None:
    document = parse(source)
    node = document.root.value["a"]
    place = document.place(node, node.value.index("foo"))
    assert re.split(r"\r?\n", source)[place.line - 1][place.column - 1 :].startswith("foo")


def test_a_number_keeps_its_spelling_where_text_is_wanted() -> None:
    root = parse("{007: 1.10, 0x10: 1, True: 2}").root
    assert list(root.value) == ["007", "0x10", "True"]
    assert root.value["007"].text == "1.10"
    assert root.plain() == {"007": 1.1, "0x10": 1, "True": 2}


def test_lines_are_counted_as_editors_count_them() -> None:
    (problem,) = parse("a: 'x\u2028y\x85z'\nb: 1\nb: 2").problems
    assert (problem.position.line, problem.position.column) == (3, 1)


def test_a_file_is_not_read_on_after_a_hundred_problems() -> None:
    with pytest.raises(InvalidFlow) as caught:
        parse("a: 1\n" * 1000)
    found = caught.value.problems
    assert len(found) == 101
    assert found[-1].message == "the file is not read on after so many problems"


def test_a_syntax_error_does_not_hide_what_was_found_before_it() -> None:
    with pytest.raises(InvalidFlow) as caught:
        parse("a: 1\na: 2\nb: [")
    assert [problem.message[:13] for problem in caught.value.problems] == ["duplicate key", "not YAML: did"]


@pytest.mark.parametrize("blank", ["\t", "\t  \t", "\t\r"])
def test_a_line_of_tabs_is_an_empty_line(blank: str) -> None:
    source = f"a: 1\n{blank}\nb: |\n  x\n{blank}\n  y\nc:\n  - 1\n{blank}\n  - 2\n{blank}\n"
    assert parse(source).root.plain() == {"a": 1, "b": "x\n\ny\n", "c": [1, 2]}
    indented = parse(f"b: |\n  x\n  {blank.rstrip()}\n  y\n").root.plain()
    assert indented == {"b": f"x\n{blank.rstrip()}\ny\n"}


@pytest.mark.parametrize("character", ["\x85", "\u2028", "\u2029"])
def test_only_line_feeds_and_carriage_returns_end_lines(character: str) -> None:
    source = f'# a{character}b: c\na: x{character}y\nb: "x{character}y"\nc: |\n  x{character}y\nd: {{{{\n'
    source = source.replace("{{{{", "{{")
    with pytest.raises(InvalidFlow) as refused:
        parse(source)
    assert refused.value.problems[0].position.line >= 6
    text = f"x{character}y"
    good = parse(source.replace("d: {{\n", "d: 1\n"))
    assert good.root.plain() == {"a": text, "b": text, "c": f"{text}\n", "d": 1}
    assert good.root.value["d"].position.line == 6


def test_characters_that_stand_for_others_are_those_that_a_file_does_not_use() -> None:
    assert parse("a: \ue000\u2028\ue001\n").root.plain() == {"a": "\ue000\u2028\ue001"}
