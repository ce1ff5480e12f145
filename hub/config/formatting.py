"""Format a flow file: indentation, spaces and blank lines only; every word and every comment stays.

Works on the scanner's tokens: each is written as it stands, what lies between them is written anew. Lines
are never joined or cut, quotes and block texts never changed. The result is read again with the hub's own
parser and compared before anybody gets it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from hub.config.yaml import Node, parse
from hub.errors import HubError, InvalidFlow, Position, Problem

STEP = 2
_OPENING = (yaml.FlowMappingStartToken, yaml.FlowSequenceStartToken)
_CLOSING = (yaml.FlowMappingEndToken, yaml.FlowSequenceEndToken)
_BLOCKS = (yaml.BlockMappingStartToken, yaml.BlockSequenceStartToken)
_AT_MARGIN = (yaml.DirectiveToken, yaml.DocumentStartToken, yaml.DocumentEndToken)
_HEADER = re.compile(r"[|>][-+0-9]*")


class CannotFormat(HubError):
    """A file that is right and still cannot be formatted; it stays as it is."""

    code = "cannot_format"


def formatted(source: str, file: str | None = None) -> str:
    """The source in its stable form. Raises ``InvalidFlow`` for what is no YAML, ``CannotFormat``."""
    text = source.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
    before = parse(text, file)
    if before.problems:
        raise InvalidFlow(before.problems)
    done = _Printer(text).run()
    _verify(text, done, before.root, file)
    return done.text


def _verify(text: str, done: _Printed, root: Node, file: str | None) -> None:
    """That nothing but white space between tokens has changed, and that a second time changes nothing."""
    where = file or "the text"
    try:
        after = parse(done.text, file)
        again = _Printer(done.text).run()
    except (InvalidFlow, CannotFormat) as error:
        raise CannotFormat(f"{where} is left as it is: formatted it could not be read any more") from error
    if after.problems or not _same(root, after.root):
        raise CannotFormat(f"{where} is left as it is: formatting would change what it means")
    if again.comments != done.comments:
        raise CannotFormat(f"{where} is left as it is: formatting would change a comment")
    if again.text != done.text:
        raise CannotFormat(f"{where} is left as it is: it has no stable form")


def _same(one: Node, other: Node) -> bool:
    """Whether two pieces hold the same values, of the same types, in the same order and style."""
    if (one.kind, one.style) != (other.kind, other.style):
        return False
    if one.kind == "mapping":
        pairs = zip(one.value.items(), other.value.items(), strict=False)
        return len(one.value) == len(other.value) and all(
            a == b and _same(mine, theirs) for (a, mine), (b, theirs) in pairs
        )
    if one.kind == "list":
        return len(one.value) == len(other.value) and all(map(_same, one.value, other.value))
    return type(one.value) is type(other.value) and bool(one.value == other.value)


@dataclass
class _Printed:
    text: str
    comments: list[str]


@dataclass(frozen=True)
class _Level:
    """An open block: where its entries stand, and where they will."""

    old: int
    new: int
    is_mapping: bool
    is_implied: bool = False
    """A list whose dashes stand at its key's own column; the scanner does not announce it."""


@dataclass
class _Printer:
    """Writes the tokens of one text."""

    source: str
    out: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    _levels: list[_Level] = field(default_factory=list)
    _before: list[_Level] = field(default_factory=list)
    """The blocks that were open at the last token: a comment after it may belong to one that has ended."""
    _flow_depth: int = 0
    _flow_base: int = 0
    _line_indent: int = 0
    _end: int = 0
    """Where the last token ends in the source."""
    _last: Any = None
    _is_key: bool = False
    _blanks_are_text: bool = False
    _blank_follows: bool = False
    """Whether the scanner has taken a blank line for the end of a block text."""

    _has_open_end: bool = False
    """Whether the file ends inside a block text: a line break there would be a part of the text."""

    def run(self) -> _Printed:
        for token in self._tokens():
            if isinstance(token, yaml.StreamEndToken):
                self._gap(len(self.source), None)
            elif self._is_visible(token):
                self._write(token)
            else:
                self._structure(token)
        text = "".join(self.out)
        if not self._blanks_are_text:
            text = text.rstrip("\n") + ("" if self._has_open_end else "\n")
        return _Printed(text, self.comments)

    def _tokens(self) -> Iterator[Any]:
        try:
            yield from yaml.scan(self.source, Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark
            position = Position(mark.line + 1, mark.column + 1) if mark is not None else Position(1, 1)
            raise InvalidFlow([Problem(f"not YAML: {error.problem}", position)]) from error

    @staticmethod
    def _is_visible(token: Any) -> bool:
        return not isinstance(token, yaml.StreamStartToken) and bool(
            token.end_mark.index > token.start_mark.index
        )

    # -- blocks

    def _structure(self, token: Any) -> None:
        """Keep account of the blocks that begin and end."""
        if isinstance(token, _BLOCKS):
            self._open(token, is_mapping=isinstance(token, yaml.BlockMappingStartToken))
        elif isinstance(token, yaml.BlockEndToken):
            self._close_implied()
            self._levels.pop()
        elif isinstance(token, yaml.KeyToken):
            self._begin_key()

    def _begin_key(self) -> None:
        if not self._flow_depth:
            self._close_implied()
            self._is_key = True

    def _open(self, token: Any, *, is_mapping: bool, is_implied: bool = False) -> None:
        new = self._levels[-1].new + STEP if self._levels else 0
        self._levels.append(_Level(token.start_mark.column, new, is_mapping, is_implied))

    def _close_implied(self) -> None:
        if self._levels and self._levels[-1].is_implied:
            self._levels.pop()

    # -- tokens

    def _write(self, token: Any) -> None:
        if isinstance(token, yaml.KeyToken):
            self._begin_key()
        elif isinstance(token, yaml.BlockEntryToken) and (not self._levels or self._levels[-1].is_mapping):
            self._open(token, is_mapping=False, is_implied=True)
        start = token.start_mark.index
        self._gap(start, token)
        if isinstance(token, _OPENING):
            if not self._flow_depth:
                self._flow_base = self._line_indent
            self._flow_depth += 1
        elif isinstance(token, _CLOSING):
            self._flow_depth -= 1
        self._end = token.end_mark.index
        self._blanks_are_text = False
        if _is_block_text(token):
            self._block_text(start)
        else:
            self._text(self.source[start : self._end], is_plain=self._is_plain(token))
        self._last = token
        self._is_key = False
        self._before = list(self._levels)

    @staticmethod
    def _is_plain(token: Any) -> bool:
        return isinstance(token, yaml.ScalarToken) and bool(token.plain)

    def _text(self, text: str, *, is_plain: bool) -> None:
        """A token, its further lines indented; the white space there is no part of the value."""
        first, *rest = text.split("\n")
        margin = " " * self._inner()
        # an escaped blank at the end of a quoted line is text
        lines = [line.strip(" \t") if is_plain else line.lstrip(" \t") for line in rest]
        self.out.append("\n".join([first.rstrip(" \t") if is_plain else first, *_indented(lines, margin)]))

    def _block_text(self, start: int) -> None:
        """A block text: its header as it stands, its lines moved together."""
        header, *body = self.source[start : self._end].split("\n")
        level = self._levels[-1] if self._levels else _Level(-1, -STEP, is_mapping=True)
        marks = _HEADER.match(header)
        digits = re.sub(r"\D", "", marks[0]) if marks else ""
        old = level.old + int(digits) if digits else _indent_of(body)
        new = level.new + (int(digits) if digits else STEP)
        lines = [(" " * new + line[old:]) if len(line) > old else "" for line in body]
        keeps = marks is not None and "+" in marks[0]
        while lines and not lines[-1] and not keeps:
            lines.pop()
        self._blank_follows = len(lines) < len(body) - 1
        comment = header.find("#")
        if comment > 0:
            self.comments.append(header[comment:].rstrip())
        self._has_open_end = bool(body) and bool(body[-1])
        if keeps and lines and not lines[-1]:
            lines.pop()  # the line break that the next gap begins with
            self._blanks_are_text = True
        self.out.append("\n".join([header.rstrip(), *lines]) + "\n")

    # -- what lies between tokens

    def _gap(self, start: int, token: Any) -> None:
        gap = self.source[self._end : start]
        is_after_block_text = bool(self.out) and self.out[-1].endswith("\n")
        if "\n" not in gap and self.out and not is_after_block_text and token is not None:
            self.out.append(self._space(token))
            return
        lines = gap.split("\n")
        if self.out and not is_after_block_text:
            self._end_of_line(lines.pop(0))
        if token is not None:
            lines.pop()  # what indents the token itself
        if self._blank_follows:
            lines.insert(0, "")
            self._blank_follows = False
        old = token.start_mark.column if token is not None else 0
        new = self._column(token)
        self._own_lines(lines, old, new)
        self._line_indent = new
        self.out.append(" " * new)

    def _end_of_line(self, rest: str) -> None:
        """A comment behind something keeps its distance, two columns at least."""
        comment = rest.strip()
        if comment:
            blanks = len(rest) - len(rest.lstrip())
            self.out.append(" " * max(blanks, 2) + self._comment(comment))
        self.out.append("\n")

    def _own_lines(self, lines: list[str], old: int, new: int) -> None:
        """Comments and blank lines before a token, at most one blank line in a row."""
        was_blank = not self.out
        for line in lines:
            text = line.strip()
            if text:
                column = self._comment_column(len(line) - len(line.lstrip()), old, new)
                self.out.append(" " * column + self._comment(text) + "\n")
            elif not was_blank and not self._blanks_are_text:
                self.out.append("\n")
            was_blank = not text

    def _comment(self, text: str) -> str:
        if not text.startswith("#"):
            raise CannotFormat(f'"{text[:40]}" stands where a comment was expected')
        self.comments.append(text)
        return text

    def _comment_column(self, column: int, old: int, new: int) -> int:
        """A comment stands as what follows it; one that is indented deeper belongs to what came before."""
        if self._flow_depth or column <= old:
            return new
        around = [level for level in self._before if level.old <= column]
        if not around:
            return new
        # below a block text a comment that stands as deep as the text would be more of it
        deeper = column > around[-1].old and not _is_block_text(self._last)
        return around[-1].new + (STEP if deeper else 0)

    def _column(self, token: Any) -> int:
        """Where a token that begins a line stands."""
        if token is None or isinstance(token, _AT_MARGIN) or not (self._levels or self._flow_depth):
            return 0
        if self._flow_depth:
            return self._inner()
        is_entry = self._is_key or isinstance(token, yaml.BlockEntryToken | yaml.ValueToken)
        return self._levels[-1].new + (0 if is_entry else STEP)

    def _inner(self) -> int:
        """Where the further lines of what stands here begin."""
        if self._flow_depth:
            return self._flow_base + STEP * self._flow_depth
        return self._levels[-1].new + STEP if self._levels else STEP

    def _space(self, token: Any) -> str:
        """What separates two tokens of one line."""
        last = self._last
        if isinstance(token, yaml.ValueToken):
            # *name: would be an alias called "name:"
            return " " if isinstance(last, yaml.AliasToken | yaml.AnchorToken | yaml.TagToken) else ""
        if isinstance(last, yaml.ValueToken):
            return " "
        if isinstance(last, _OPENING) or isinstance(token, (*_CLOSING, yaml.FlowEntryToken)):
            return ""
        return " "


def _is_block_text(token: Any) -> bool:
    return isinstance(token, yaml.ScalarToken) and token.style in ("|", ">")


def _indented(lines: list[str], margin: str) -> list[str]:
    return [margin + line if line else "" for line in lines]


def _indent_of(lines: list[str]) -> int:
    """What the first line with something on it is indented by."""
    first = next((line for line in lines if line.strip(" ")), "")
    return len(first) - len(first.lstrip(" "))
