"""Change one member of a JSON file that people write by hand, comments and trailing commas included.

Editors keep their settings so. Everything but the changed place stays as it is, byte for byte.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

_GAP = re.compile(r"(?:[ \t\r\n\ufeff]+|//[^\n]*|/\*.*?\*/)*", re.S)
_STRING = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_LITERAL = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|true|false|null")
_DEEPEST = 100


class NotJson(ValueError):
    """Text that cannot be read; says where."""


@dataclass
class Value:
    """A value and the characters it stands on."""

    start: int
    end: int
    data: Any
    members: dict[str, Value] = field(default_factory=dict)
    """An object's members; of two with one name the last, as editors take it."""
    starts: list[int] = field(default_factory=list)
    """Where the names of an object's members begin."""
    last_end: int | None = None
    """Where an object's last member ends."""
    has_comma: bool = False
    """Whether a comma follows the last member."""


def read(text: str) -> Value:
    """The one value of a text. Raises ``NotJson``."""
    reader = _Reader(text)
    value = reader.value(reader.gap(0), 0)
    rest = reader.gap(value.end)
    if rest != len(text):
        raise reader.wrong(rest, "something follows the end")
    return value


def with_member(text: str, path: tuple[str, ...], data: Any) -> str:
    """The text with ``data`` at a path of names. Raises ``NotJson``, also where a step is no object."""
    root = at = read(text)
    depth = 0
    while depth < len(path) - 1 and path[depth] in at.members:
        at = at.members[path[depth]]
        depth += 1
    for name in reversed(path[depth + 1 :]):
        data = {name: data}
    if not isinstance(at.data, dict):
        raise NotJson(f'"{".".join(path[:depth]) or "the file"}" is not an object')
    changed = _put(text, root, at, path[depth], data)
    wanted: Any = root.data
    for name in path[:depth]:
        wanted = wanted[name]
    wanted[path[depth]] = data
    if read(changed).data != root.data:
        raise NotJson("the change would alter something else")
    return changed


def _put(text: str, root: Value, at: Value, name: str, data: Any) -> str:
    step = _indent(text, root) or "  "
    outer = _line_indent(text, at.start)
    margin = _indent(text, at) or outer + step
    spelled = json.dumps(data, indent=step, ensure_ascii=False).replace("\n", "\n" + margin)
    if name in at.members:
        old = at.members[name]
        return text[: old.start] + spelled + text[old.end :]
    member = f"\n{margin}{json.dumps(name, ensure_ascii=False)}: {spelled}\n{outer}"
    # the comma goes to the last member, the new one below whatever comment follows that
    last = at.last_end if at.last_end is not None else at.start + 1
    comma = "" if at.last_end is None or at.has_comma else ","
    return text[:last] + comma + text[last : at.end - 1].rstrip() + member + text[at.end - 1 :]


def _indent(text: str, at: Value) -> str:
    """What an object's members are indented by, where one begins a line."""
    for start in at.starts:
        if not text[text.rfind("\n", 0, start) + 1 : start].strip():
            return _line_indent(text, start)
    return ""


def _line_indent(text: str, at: int) -> str:
    line = text[text.rfind("\n", 0, at) + 1 :]
    return line[: len(line) - len(line.lstrip(" \t"))]


class _Reader:
    """A recursive reader of one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def gap(self, at: int) -> int:
        match = _GAP.match(self._text, at)
        return match.end() if match else at

    def wrong(self, at: int, message: str) -> NotJson:
        line = self._text.count("\n", 0, at) + 1
        return NotJson(f"line {line}: {message}")

    def value(self, at: int, depth: int) -> Value:
        if depth > _DEEPEST:
            raise self.wrong(at, f"nested deeper than {_DEEPEST} levels")
        first = self._text[at : at + 1]
        if first == "{":
            return self._object(at, depth)
        if first == "[":
            return self._list(at, depth)
        match = _STRING.match(self._text, at) or _LITERAL.match(self._text, at)
        if match is None:
            raise self.wrong(at, "expected a value")
        return Value(at, match.end(), self._plain(match[0], at))

    def _object(self, start: int, depth: int) -> Value:
        found = Value(start, start, {})
        at = self.gap(start + 1)
        while self._text[at : at + 1] != "}":
            match = _STRING.match(self._text, at)
            if match is None:
                raise self.wrong(at, 'expected a name in quotes, or "}"')
            name = self._plain(match[0], at)
            found.starts.append(at)
            at = self.gap(match.end())
            if self._text[at : at + 1] != ":":
                raise self.wrong(at, 'expected ":"')
            value = self.value(self.gap(at + 1), depth + 1)
            found.members[name] = value
            found.data[name] = value.data
            found.last_end = value.end
            at, found.has_comma = self._comma(value.end, "}")
        found.end = at + 1
        return found

    def _list(self, start: int, depth: int) -> Value:
        found = Value(start, start, [])
        at = self.gap(start + 1)
        while self._text[at : at + 1] != "]":
            value = self.value(at, depth + 1)
            found.data.append(value.data)
            at, _ = self._comma(value.end, "]")
        found.end = at + 1
        return found

    def _comma(self, at: int, closing: str) -> tuple[int, bool]:
        """Past a comma, where there is one; a closing bracket may follow either way."""
        at = self.gap(at)
        if self._text[at : at + 1] == ",":
            return self.gap(at + 1), True
        if self._text[at : at + 1] != closing:
            raise self.wrong(at, f'expected "," or "{closing}"')
        return at, False

    def _plain(self, text: str, at: int) -> Any:
        try:
            return json.loads(text)
        except ValueError:
            raise self.wrong(at, "a text that JSON does not allow") from None
