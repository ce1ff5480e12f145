"""Cut a template into text, tags and the tokens inside them; every token knows where it starts and ends."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from hub.errors import ExpressionError

MOST_TOKENS = 5_000
LONGEST_TEMPLATE = 80_000
"""Characters; plain text without tags may be longer."""


class Token(NamedTuple):
    """One token; ``kind`` is ``name``, ``string``, ``integer``, ``float``, ``operator`` or ``end``."""

    kind: str
    text: str
    value: str | int | float | None
    start: int
    end: int


class Segment(NamedTuple):
    """A stretch of a template: ``text``, ``output`` (``{{ }}``) or ``statement`` (``{% %}``).

    For text, ``text`` is what remains after whitespace control; for tags, ``inner`` bounds the expression.
    """

    kind: str
    text: str
    start: int
    end: int
    inner_start: int = 0
    inner_end: int = 0


_OPEN = re.compile(r"\{\{[-+]?|\{%[-+]?")
_RAW = re.compile(r"\{%[-+]?\s*raw\s*[-+]?%\}")
_END_RAW = re.compile(r"\{%[-+]?\s*endraw\s*[-+]?%\}")
_TOKEN = re.compile(
    r"""
      (?P<space>\s+)
    | (?P<float>\d+(?:_\d+)*(?:\.\d+(?:_\d+)*(?:[eE][+-]?\d+)?|[eE][+-]?\d+))
    | (?P<integer>0[xX][0-9a-fA-F]+|0[bB][01]+|0[oO][0-7]+|\d+(?:_\d+)*)
    | (?P<name>[^\W\d]\w*)
    | (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    | (?P<operator>\?\?|\*\*|//|==|!=|<=|>=|[-+*/%~<>=()\[\]{},.:|?])
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|.)", re.DOTALL)
_SIMPLE_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "0": "\0"}
_MOST_DIGITS = 1000


def tokens_of(source: str, start: int, end: int) -> list[Token]:
    """The tokens of ``source[start:end]`` with an ``end`` token after the last. Raises ``ExpressionError``."""
    found: list[Token] = []
    position = start
    match = _TOKEN.match
    while position < end:
        hit = match(source, position, end)
        if hit is None:
            raise _unreadable(source, position, end)
        kind = hit.lastgroup or ""
        if kind != "space":
            found.append(_token(kind, hit.group(), position, hit.end()))
            if len(found) > MOST_TOKENS:
                raise ExpressionError("the expression is too long", start=start, end=end)
        position = hit.end()
    found.append(Token("end", "", None, end, end))
    return found


def _token(kind: str, text: str, start: int, end: int) -> Token:
    value: str | int | float | None = None
    if kind == "string":
        value = (
            _whole_characters(_ESCAPE.sub(_unescape, text[1:-1]), start, end) if "\\" in text else text[1:-1]
        )
    elif kind == "integer":
        if len(text) > _MOST_DIGITS:
            raise ExpressionError("the number has too many digits", start=start, end=end)
        value = (
            int(text.replace("_", ""), 0)
            if text[:1] == "0" and len(text) > 1 and text[1].isalpha()
            else int(text)
        )
    elif kind == "float":
        value = float(text)
        if value in (float("inf"), float("-inf")):
            raise ExpressionError("the number is too large", start=start, end=end)
    return Token(kind, text, value, start, end)


def _whole_characters(text: str, start: int, end: int) -> str:
    """The text with halves of a character put together. Raises ``ExpressionError`` for a lone half."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise ExpressionError("the text holds half a character", start=start, end=end) from None


def _unescape(match: re.Match[str]) -> str:
    letter = match.group(1)
    if len(letter) > 1:
        return chr(int(letter[1:], 16))
    return _SIMPLE_ESCAPES.get(letter, letter)


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


def segments_of(source: str) -> Iterator[Segment]:
    """Text and tags of a template in order. Raises ``ExpressionError`` for a tag that is not closed."""
    position = 0
    trim_next = False
    while True:
        hit = _OPEN.search(source, position)
        text = source[position : hit.start() if hit else len(source)]
        if trim_next:
            text = text.lstrip()
        if hit is not None and hit.group().endswith("-"):
            text = text.rstrip()
        if text:
            yield Segment("text", text, position, hit.start() if hit else len(source))
        if hit is None:
            return
        raw = _RAW.match(source, hit.start())
        if raw is not None:
            closing = _END_RAW.search(source, raw.end())
            if closing is None:
                raise ExpressionError(
                    "{% raw %} is not closed",
                    start=raw.start(),
                    end=raw.end(),
                    hint="close it with {% endraw %}",
                )
            inside = source[raw.end() : closing.start()]
            inside = inside.lstrip() if raw.group().endswith("-%}") else inside
            inside = inside.rstrip() if closing.group().startswith("{%-") else inside
            if inside:
                yield Segment("text", inside, raw.end(), closing.start())
            position, trim_next = closing.end(), closing.group().endswith("-%}")
            continue
        closer = "}}" if hit.group().startswith("{{") else "%}"
        end = _closing(source, hit.end(), closer)
        if end < 0:
            opener = hit.group()[:2]
            raise ExpressionError(
                f'"{opener}" is not closed',
                start=hit.start(),
                end=hit.start() + 2,
                hint=f'close it with "{closer}", or write {{% raw %}}{opener}{{% endraw %}} for the characters',
            )
        trim_next = source[end - 1] == "-"
        inner_end = end - 1 if trim_next or source[end - 1] == "+" else end
        yield Segment(
            "output" if closer == "}}" else "statement",
            "",
            hit.start(),
            end + 2,
            hit.end(),
            max(inner_end, hit.end()),
        )
        position = end + 2


_MARK = re.compile(r"""['"]|[(\[{]+|[)\]]+|\}|%\}""")


def _closing(source: str, start: int, closer: str) -> int:
    """Where the tag's closer is, outside of texts and brackets; -1 where there is none."""
    depth = 0
    position = start
    while (hit := _MARK.search(source, position)) is not None:
        at, mark = hit.start(), hit.group()
        position = hit.end()
        if depth <= 0 and source.startswith(closer, at):
            return at
        if mark[0] in "'\"":
            position = _string_end(source, at)
            if position < 0:
                # an open text: the plain search finds the tag's end, and the message names the text
                return source.find(closer, at)
        elif mark[0] in "([{":
            depth += len(mark)
        elif mark != "%}":
            depth -= len(mark)
    return source.find(closer, start)


_STRING = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def _string_end(source: str, start: int) -> int:
    hit = _STRING.match(source, start)
    return hit.end() if hit is not None else -1


def tag_end(source: str, start: int) -> int:
    """Where the output tag that begins at ``start`` ends; -1 where it is not closed."""
    end = _closing(source, start + 2, "}}")
    return end + 2 if end >= 0 else -1


def strip_raw(text: str) -> str:
    """``text`` without its ``{% raw %}`` and ``{% endraw %}`` marks, everything else as it stands."""
    if "raw" not in text:
        return text
    return _END_RAW.sub("", _RAW.sub("", text))
