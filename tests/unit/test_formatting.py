"""Formatting: one stable form, every comment kept, the meaning never changed."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.config.formatting import formatted
from hub.config.yaml import parse
from hub.errors import InvalidFlow

ROOT = Path(__file__).parent.parent.parent

_UNTIDY = """\


id:   a
namespace: "n"   # behind
labels: { team : sales ,x: "y" }
variables:
    long: hello
      world
    keep: |+
        a

         b


    fold: >-
      x
      y

    # about ind
    ind: |2
         z
    empty:
    anchored: &a {x: [1,2 ,3]}
    alias: *a
    # at the end of variables
# before tasks
tasks:
# about first
- id: a
  type: log
  # message: commented out
  message: x #c
-   id: b
    type: flow.if
    then:
    -   id: c
        message:
          plain
        # end of c
    else:
        - {id: d,
               type: log,   # inside
             message: x}
    # end of b
errors:
  # none
outputs: [
   {id: z, value: 1},
 ]


# last
"""
_TIDY = """\
id: a
namespace: "n"   # behind
labels: {team: sales, x: "y"}
variables:
  long: hello
    world
  keep: |+
    a

     b


  fold: >-
    x
    y

  # about ind
  ind: |2
       z
  empty:
  anchored: &a {x: [1, 2, 3]}
  alias: *a
  # at the end of variables
# before tasks
tasks:
  # about first
  - id: a
    type: log
    # message: commented out
    message: x  #c
  - id: b
    type: flow.if
    then:
      - id: c
        message:
          plain
        # end of c
    else:
      - {id: d,
        type: log,   # inside
        message: x}
    # end of b
errors:
  # none
outputs: [
  {id: z, value: 1},
  ]

# last
"""


def test_untidy_text_takes_its_one_form() -> None:
    assert formatted(_UNTIDY) == _TIDY


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("blueprints/**/*.yaml")), *sorted(ROOT.glob("hub/_project/*.yaml"))], ids=str
)
def test_what_the_hub_ships_is_formatted_already(path: Path) -> None:
    source = path.read_text()
    assert formatted(source, str(path)) == source


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("a: 1", "a: 1\n"),
        ("\ufeffa: 1\r\nb:  2\r\n\r\n\r\n", "a: 1\nb: 2\n"),
        ("a: |\n  x\n\n\n\nb: 1\n", "a: |\n  x\n\nb: 1\n"),
        ("a: |+\n  x\n\n\n", "a: |+\n  x\n\n\n"),
        ("a: |\n     x  \n       y\n", "a: |\n  x  \n    y\n"),
        ("a: >2\n    x\nb: 1", "a: >2\n    x\nb: 1\n"),
        ("a:\n - - 1\n   - 2\n", "a:\n  - - 1\n    - 2\n"),
        ("a: {b:  , c: [ ]}\n", "a: {b: , c: []}\n"),
        ('"a" : 1\n? b\n:   2\n', '"a": 1\n? b\n: 2\n'),
        ("x: &x k\n*x : 1\n", "x: &x k\n*x : 1\n"),
        ("---\na:   1\n...\n", "---\na: 1\n...\n"),
        ("# only\n\n\n# comments\na: 1 # x\n# end", "# only\n\n# comments\na: 1  # x\n# end\n"),
        ('a: "x\n   y\\\n     z"\n', 'a: "x\n  y\\\n  z"\n'),
        ("a: 0x1F\nb: 1_0\nc: 1e3\nd: 012\ne: ~\nf: No\n", "a: 0x1F\nb: 1_0\nc: 1e3\nd: 012\ne: ~\nf: No\n"),
        ("a: 'it''s'\nb:\t2\n", "a: 'it''s'\nb: 2\n"),
        ("a: | # why\n   x\n", "a: | # why\n  x\n"),
    ],
)
def test_small_forms(source: str, wanted: str) -> None:
    assert formatted(source) == wanted


@pytest.mark.parametrize("source", ["a: [", "a: 1\na: 2\n", "a: !!python/name:os.system x\n", ""])
def test_what_cannot_be_read_is_refused_with_its_place(source: str) -> None:
    with pytest.raises(InvalidFlow) as refusal:
        formatted(source)
    assert refusal.value.problems[0].position.line >= 1


class _Writer:
    """Random YAML with random indentation, comments, blank lines and styles."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._lines: list[str] = []
        self._number = 0

    def document(self) -> str:
        self._mapping(0, 4)
        return "\n".join(self._lines) + self._random.choice(["", "\n", "\n\n\n", "\n# end\n"])

    def _noise(self, column: int) -> None:
        while self._random.random() < 0.25:
            self._number += 1
            shift = self._random.choice([0, 0, 0, 1, 2, 4, -1, -2])
            comment = f"{' ' * max(column + shift, 0)}# comment {self._number}"
            self._lines.append(self._random.choice(["", comment, comment, "   "]))

    def _tail(self) -> str:
        if self._random.random() < 0.85:
            return self._random.choice(["", "", " "])
        self._number += 1
        return f"{' ' * self._random.randint(1, 4)}# behind {self._number}"

    def _mapping(self, column: int, depth: int, first: str = "") -> None:
        for index in range(self._random.randint(1, 4)):
            if not (first and index == 0):
                self._noise(column)
            name = self._random.choice(["k", '"q k"', "'s'", "long-name"])
            name = f"{name[:-1]}{index}{name[-1]}" if name[-1] in "\"'" else f"{name}{index}"
            lead = first if first and index == 0 else " " * column
            self._value(f"{lead}{name}{self._random.choice(['', '', ' '])}:", column, depth, in_list=False)

    def _list(self, column: int, depth: int, first: str = "") -> None:
        for index in range(self._random.randint(1, 3)):
            if not (first and index == 0):
                self._noise(column)
            lead = first if first and index == 0 else " " * column
            self._value(f"{lead}-", column, depth, in_list=True)

    def _value(self, head: str, column: int, depth: int, *, in_list: bool) -> None:
        kind = self._random.choice(
            ["plain", "quoted", "block", "flow", "empty", "mapping", "list", "long", "mapping"]
        )
        gap = " " * self._random.randint(1, 3)
        if depth == 0 and kind in ("mapping", "list"):
            kind = "plain"
        inner = column + self._random.randint(1, 4)
        if kind == "plain":
            text = self._random.choice(
                ["1", "no", "1.50", "0x1f", "some text", "null", "a#b", "2001-01-01", "it's"]
            )
            self._lines.append(f"{head}{gap}{text}{self._tail()}")
        elif kind == "quoted":
            text = self._random.choice(['"a # b"', "'x: y'"])
            self._lines.append(f"{head}{gap}{text}{self._tail()}")
        elif kind == "empty":
            self._lines.append(f"{head}{self._tail()}")
        elif kind == "long":
            quote = self._random.choice(["", '"', "'"])
            self._lines += [
                f"{head}{gap}{quote}one",
                " " * inner + "two",
                "",
                f"{' ' * (inner + 1)}three{quote}{self._tail()}",
            ]
        elif kind == "block":
            self._block(head + gap, inner)
        elif kind == "flow":
            self._flow(head + gap, inner)
        elif in_list and self._random.random() < 0.7:
            lead = head + gap
            (self._mapping if kind == "mapping" else self._list)(len(lead), depth - 1, lead)
        else:
            self._lines.append(head + self._tail())
            if kind == "list" and not in_list and self._random.random() < 0.4:
                inner = column
            (self._mapping if kind == "mapping" else self._list)(inner, depth - 1)

    def _block(self, head: str, inner: int) -> None:
        self._lines.append(head + self._random.choice(["|", ">", "|-", ">+", "|+"]))
        for line in self._random.choices(["text", "  deeper # no comment", "", "k: v", "trailing  "], k=3):
            self._lines.append(" " * inner + line if line else "")
        self._lines.insert(-3, " " * inner + "begin")

    def _flow(self, head: str, inner: int) -> None:
        texts = self._random.choice(
            [("{a:  1", "b : [x,y ]}"), ("[ 1", "{ k: v }", "]"), ("{a: {b: ", "c}}"), ("[]",)]
        )
        if self._random.random() < 0.5:
            self._lines.append(
                head + ", ".join(texts).replace(", ]", " ]").replace(": , ", ": ") + self._tail()
            )
            return
        parts = [
            text if at + 1 == len(texts) or text.endswith(": ") or texts[at + 1] == "]" else f"{text},"
            for at, text in enumerate(texts)
        ]
        self._lines.append(head + parts[0] + self._tail())
        for part in parts[1:]:
            self._noise(inner)
            self._lines.append(" " * inner + part + self._tail())


@settings(max_examples=400, deadline=None)
@given(st.integers(min_value=0))
def test_random_text_keeps_its_meaning_and_its_comments(seed: int) -> None:
    source = _Writer(seed).document()
    before = parse(source)
    if before.problems:
        return
    text = formatted(source)
    assert parse(text).root.plain() == before.root.plain()
    assert sorted(re.findall(r"# (?:comment|behind) \d+", text)) == sorted(
        re.findall(r"# (?:comment|behind) \d+", source)
    )
    assert formatted(text) == text
