"""Cut a template into text, tags and the tokens inside them; every token knows where it starts and ends.

Called by the parser. Everything here takes a time that grows with the text and no more: a template is cut
before it is parsed, and what is too large is refused before it costs anything.
"""

from __future__ import annotations

import re

# loaded here, so that no template ever imports it
import unicodedata
from typing import NamedTuple

from hub.errors import ExpressionError

MOST_TOKENS = 1_000
"""In all tags of a template together."""
MOST_TAGS = 300
LONGEST_TEMPLATE = 70_000
"""Characters; plain text without tags may be longer."""


class Token(NamedTuple):
    """One token; ``kind`` is ``name``, ``string``, ``integer``, ``float``, ``operator`` or ``end``."""

    kind: str
    text: str
    value: str | int | float | None
    start: int
    end: int


class Segment(NamedTuple):
    """A stretch of a template: ``text``, ``output`` (``{{ }}``), ``path`` or ``statement`` (``{% %}``).

    For text, ``text`` is what remains after whitespace control; for tags, ``inner`` bounds the expression. A
    ``path`` is an output of names joined by dots, the commonest of all: it needs no tokens.
    """

    kind: str
    text: str
    start: int
    end: int
    inner_start: int = 0
    inner_end: int = 0


_OPEN = re.compile(r"\{\{[-+]?|\{%[-+]?")
_PATH = re.compile(r"\{\{[-+]?\s*+([^\W\d]\w*+(?:\.[^\W\d]\w*+)*+)\s*+([-+]?)\}\}")
_RAW = re.compile(r"\{%[-+]?\s*+raw\s*+[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*+endraw\s*+[-+]?%\}")
_STRING = re.compile(r"""'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+\"""", re.DOTALL)
_TOKEN = re.compile(
    r"""
    \s*+(?:
      (?P<name>[^\W\d]\w*+)
    | (?P<operator>\?\?|\*\*|//|==|!=|<=|>=|[-+*/%~<>=()\[\]{},.:|?])
    | (?P<string>'[^'\\]*+(?:\\.[^'\\]*+)*+'|"[^"\\]*+(?:\\.[^"\\]*+)*+")
    | (?P<float>[0-9]++(?:_[0-9]++)*+(?:\.[0-9]++(?:_[0-9]++)*+(?:[eE][+-]?[0-9]++)?|[eE][+-]?[0-9]++))
    | (?P<integer>0[xX][0-9a-fA-F]++|0[bB][01]++|0[oO][0-7]++|[0-9]++(?:_[0-9]++)*+)
    )
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(
    r"\\(?:(?P<octal>[0-7]{1,3})|x(?P<x>[0-9a-fA-F]{0,2})|u(?P<u>[0-9a-fA-F]{0,4})|U(?P<U>[0-9a-fA-F]{0,8})"
    r"|N(?P<named>(?:\{[^{}]{0,100}\})?)|(?P<one>.))",
    re.DOTALL,
)
_SIMPLE_ESCAPES = {
    "n": "\n",
    "t": "\t",
    "r": "\r",
    "b": "\b",
    "f": "\f",
    "a": "\a",
    "v": "\v",
    "\n": "",
    "\\": "\\",
    "'": "'",
    '"': '"',
}
_DIGITS = {"x": 2, "u": 4, "U": 8}
_MOST_DIGITS = 1000
_MOST_ESCAPES = 1000


def tokens_of(source: str, start: int, end: int, most: int = MOST_TOKENS) -> list[Token]:
    """The tokens of ``source[start:end]`` with an ``end`` token after the last. Raises ``ExpressionError``."""
    found: list[Token] = []
    position = start
    match = _TOKEN.match
    while (hit := match(source, position, end)) is not None:
        kind = hit.lastgroup or ""
        first, position = hit.span(kind)
        if kind == "name" or kind == "operator":
            found.append(Token(kind, source[first:position], None, first, position))
        else:
            found.append(_literal(kind, source[first:position], first, position))
        if len(found) > most:
            raise _too_many(start, end, most)
    rest = source[position:end].lstrip()
    if rest:
        raise _unreadable(source, end - len(rest), end)
    found.append(Token("end", "", None, end, end))
    return found


def _too_many(start: int, end: int, most: int) -> ExpressionError:
    # what is over the bound by itself is told apart from the last straw
    message = "the expression is too long" if most == MOST_TOKENS else "the template is too large"
    return ExpressionError(
        message, start=start, end=end, hint=f"it has at most {MOST_TOKENS:,} words and signs"
    )


def _literal(kind: str, text: str, start: int, end: int) -> Token:
    value: str | int | float
    if kind == "string":
        value = _unescaped(text[1:-1], start, end) if "\\" in text else text[1:-1]
    elif kind == "integer":
        if len(text) > _MOST_DIGITS:
            raise ExpressionError("the number has too many digits", start=start, end=end)
        is_decimal = text[:1] != "0" or text.replace("_", "").isdigit()
        value = int(text) if is_decimal else int(text, 0)
    else:
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ExpressionError("the number is too large", start=start, end=end)
    return Token(kind, text, value, start, end)


def _unescaped(text: str, start: int, end: int) -> str:
    """The text with Python's escapes read; an unknown one keeps its backslash, as in Jinja2."""

    def character(hit: re.Match[str]) -> str:
        kind = hit.lastgroup or ""
        given = hit[kind]
        if kind == "one":
            return _SIMPLE_ESCAPES.get(given, hit[0])
        if kind == "octal":
            return chr(int(given, 8))
        if kind == "named":
            try:
                return unicodedata.lookup(given[1:-1])
            except KeyError:
                raise ExpressionError(f"unknown character {hit[0]}", start=start, end=end) from None
        if len(given) < _DIGITS[kind] or int(given, 16) > 0x10FFFF:
            wanted = f"\\{kind} and {_DIGITS[kind]} hexadecimal digits"
            raise ExpressionError(f"{hit[0]} is no character; expected {wanted}", start=start, end=end)
        return chr(int(given, 16))

    if text.count("\\") > _MOST_ESCAPES:
        raise ExpressionError(f"the text has more than {_MOST_ESCAPES:,} escapes", start=start, end=end)
    result = _ESCAPE.sub(character, text)
    try:
        # halves of a character beside each other are one
        return result.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ExpressionError("the text holds half a character", start=start, end=end) from None


def _unreadable(source: str, position: int, end: int) -> ExpressionError:
    character = source[position]
    if character in "'\"":
        return ExpressionError(
            "the text is not closed", start=position, end=end, hint=f"close it with {character}"
        )
    hints = {"&": 'write "and"', "!": 'write "not" or "!="', ";": None, "$": None}
    return ExpressionError(
        f'unexpected character "{character}"', start=position, end=position + 1, hint=hints.get(character)
    )


# -- text and tags


def segments_of(source: str) -> list[Segment]:
    """Text and tags of a template in order. Raises ``ExpressionError`` for a tag that is not closed."""
    return _Cutter(source).cut()


class _Cutter:
    """Cuts one template; it counts on the way."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._found: list[Segment] = []
        self._trim_next = False
        self._tags = 0
        self._marks = 0

    def cut(self) -> list[Segment]:
        source = self._source
        position = 0
        while (hit := _OPEN.search(source, position)) is not None:
            opening = hit.group()
            self._text(position, hit.start(), opening[-1] == "-")
            self._tags += 1
            if self._tags > MOST_TAGS:
                raise ExpressionError(
                    "the template is too large",
                    start=hit.start(),
                    end=hit.end(),
                    hint=f"a text has at most {MOST_TAGS} tags; use {{% for %}} for what repeats",
                )
            path = _PATH.match(source, hit.start())
            if path is not None:
                self._found.append(Segment("path", path[1], path.start(), path.end(), *path.span(1)))
                position, self._trim_next = path.end(), path[2] == "-"
            elif opening[1] == "%" and (raw := _RAW.match(source, hit.start())) is not None:
                position = self._raw(raw)
            else:
                position = self._tag(hit.start(), hit.end())
        self._text(position, len(source), False)
        return self._found

    def _text(self, start: int, end: int, trimmed: bool) -> None:
        text = self._source[start:end]
        if self._trim_next:
            text = text.lstrip()
        if trimmed:
            text = text.rstrip()
        if text:
            self._found.append(Segment("text", text, start, end))

    def _raw(self, opening: re.Match[str]) -> int:
        closing = _END_RAW.search(self._source, opening.end())
        if closing is None:
            raise ExpressionError(
                "{% raw %} is not closed",
                start=opening.start(),
                end=opening.end(),
                hint="close it with {% endraw %}",
            )
        self._trim_next = opening.group().endswith("-%}")
        self._text(opening.end(), closing.start(), closing.group().startswith("{%-"))
        self._trim_next = closing.group().endswith("-%}")
        return closing.end()

    def _tag(self, start: int, inner: int) -> int:
        source = self._source
        closer = "}}" if source[start + 1] == "{" else "%}"
        end, self._marks = closing_of(source, inner, closer, self._marks)
        if end < 0:
            opener = source[start : start + 2]
            raise ExpressionError(
                f'"{opener}" is not closed',
                start=start,
                end=start + 2,
                hint=f'close it with "{closer}", or write {{% raw %}}{opener}{{% endraw %}} for the characters',
            )
        self._trim_next = source[end - 1] == "-"
        inner_end = max(end - 1 if source[end - 1] in "-+" else end, inner)
        kind = "output" if closer == "}}" else "statement"
        self._found.append(Segment(kind, "", start, end + 2, inner, inner_end))
        return end + 2


_MARK = re.compile(r"""['"()\[\]{}]|%\}""")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def closing_of(source: str, start: int, closer: str, marks: int = 0) -> tuple[int, int]:
    """Where a tag's closer is, outside of texts and brackets, or -1; and how many quotes and brackets there were.

    Raises ``ExpressionError`` for a text that is not closed, and after more quotes and brackets than may be.
    """
    expected: list[str] = []
    position = start
    while (hit := _MARK.search(source, position)) is not None:
        at, mark = hit.start(), hit.group()
        position = hit.end()
        marks += 1
        if marks > MOST_TOKENS:
            raise _too_many(start, at, MOST_TOKENS)
        if mark == "%}":
            if closer == mark:
                return at, marks
        elif mark in "'\"":
            text = _STRING.match(source, at)
            if text is None:
                end = source.find(closer, at)
                raise _unreadable(source, at, end if end >= 0 else len(source))
            position = text.end()
        elif mark in _PAIRS:
            expected.append(_PAIRS[mark])
        elif not expected and mark == "}" and source.startswith(closer, at):
            return at, marks
        elif expected and expected[-1] == mark:
            expected.pop()
        else:
            # brackets that do not fit: the tag ends at the first closer, and the parser says what is wrong
            break
    return source.find(closer, start), marks


def strip_raw(text: str) -> str:
    """``text`` without its ``{% raw %}`` and ``{% endraw %}`` marks, everything else as it stands."""
    if "raw" not in text:
        return text
    return _END_RAW.sub("", _RAW.sub("", text))


def raw_spans(text: str) -> list[tuple[int, int]]:
    """Where text is said to be meant as it stands; what is not closed goes to the end."""
    found: list[tuple[int, int]] = []
    position = 0
    while (opening := _RAW.search(text, position)) is not None:
        closing = _END_RAW.search(text, opening.end())
        position = closing.end() if closing is not None else len(text)
        found.append((opening.start(), position))
    return found
