"""Read YAML 1.2 into plain data that knows where each piece stands, within bounds.

PyYAML's C parser gives events; nothing is constructed before the bounds are checked, so a bomb costs no more
than its own text. Differences to PyYAML's own loaders are YAML 1.2's: ``no`` is text, ``on`` a plain key,
dates are text. There are no merge keys and no custom tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from hub.errors import InvalidFlow, Position, Problem

LARGEST = 1024 * 1024
DEEPEST = 50
MOST_ALIASES = 100
MOST_NODES = 100_000

_INT = re.compile(r"[-+]?[0-9]+\Z")
_OCTAL_OR_HEX = re.compile(r"0o[0-7]+\Z|0x[0-9a-fA-F]+\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")
_CONSTANTS: dict[str, Any] = {
    "": None,
    "~": None,
    "null": None,
    "Null": None,
    "NULL": None,
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_STR_TAG = "tag:yaml.org,2002:str"
_NUMBER_START = frozenset("+-.0123456789")
_MOST_DIGITS = 1000


class Node:
    """A piece of YAML: ``value`` is a scalar's value, a list of nodes, or a mapping of nodes by key."""

    __slots__ = ("column", "end", "keys", "kind", "line", "size", "start", "style", "value")

    def __init__(self, kind: str, value: Any, mark: Any) -> None:
        self.kind = kind
        """``scalar``, ``list`` or ``mapping``."""
        self.value = value
        self.line: int = mark.line + 1
        self.column: int = mark.column + 1
        self.start: int = mark.index
        self.end: int = mark.index
        self.style: str | None = None
        self.keys: dict[str, Node] = {}
        self.size = 1
        """How many nodes it stands for, aliases spelled out."""

    @property
    def position(self) -> Position:
        return Position(self.line, self.column)

    def get(self, key: str) -> Node | None:
        """A mapping's entry."""
        found: Node | None = self.value.get(key) if self.kind == "mapping" else None
        return found

    def plain(self) -> Any:
        """The data without its places."""
        if self.kind == "mapping":
            return {key: node.plain() for key, node in self.value.items()}
        if self.kind == "list":
            return [node.plain() for node in self.value]
        return self.value


class Document:
    """A parsed file."""

    __slots__ = ("file", "problems", "root", "source")

    def __init__(self, source: str, root: Node, problems: list[Problem], file: str | None) -> None:
        self.source = source
        self.root = root
        self.problems = problems
        """Duplicate keys and the like: the rest of the file could be read."""
        self.file = file

    def place(self, node: Node, offset: int) -> Position:
        """Where the character ``offset`` of a text node's value stands in the file."""
        index = _source_index(self.source, node, offset)
        line = self.source.count("\n", 0, index) + 1
        return Position(line, index - (self.source.rfind("\n", 0, index) + 1) + 1)


def parse(source: str, file: str | None = None) -> Document:
    """Parse one YAML document. Raises ``InvalidFlow`` for what cannot be read or is over a bound."""
    if len(source) > LARGEST or len(source.encode("utf-8", "surrogatepass")) > LARGEST:
        raise _refused("the file is larger than 1 MiB", Position(1, 1), file)
    if source.startswith("\ufeff"):
        source = source[1:]
    builder = _Builder(file)
    try:
        root = builder.build(yaml.parse(source, Loader=yaml.CSafeLoader))
    except yaml.MarkedYAMLError as error:
        raise InvalidFlow([_syntax_problem(error, source, file)]) from error
    except yaml.reader.ReaderError as error:
        before = source[: error.position] if isinstance(error.position, int) else ""
        line = before.count("\n") + 1
        raise _refused(
            f"a character that YAML does not allow: {error.character!r}",
            Position(line, len(before) - before.rfind("\n")),
            file,
        ) from error
    except UnicodeEncodeError as error:
        raise _refused("a character that is not Unicode text", Position(1, 1), file) from error
    if root is None:
        raise _refused("the file is empty", Position(1, 1), file)
    return Document(source, root, builder.problems, file)


def _refused(message: str, position: Position, file: str | None, hint: str | None = None) -> InvalidFlow:
    return InvalidFlow([Problem(message, position, hint, file=file)])


class _Builder:
    """Events to nodes, counting on the way."""

    def __init__(self, file: str | None) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._aliases = 0
        self._total = 0

    def build(self, events: Iterator[Any]) -> Node | None:
        root: Node | None = None
        documents = 0
        stack: list[tuple[Node, list[Node | None]]] = []
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                node = self._scalar(event)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                node = self._opened(event, "mapping" if kind is yaml.MappingStartEvent else "list")
                if len(stack) >= DEEPEST:
                    raise self._over(f"nested deeper than {DEEPEST} levels", event)
                stack.append((node, [None]))
                continue
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                node, _ = stack.pop()
                node.end = event.end_mark.index
            elif kind is yaml.AliasEvent:
                node = self._alias(event)
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise self._over("a second document; a file holds one", event)
                continue
            else:
                continue
            if stack:
                self._add(stack[-1], node)
            else:
                root = node
        return root

    def _add(self, top: tuple[Node, list[Node | None]], node: Node) -> None:
        parent, pending = top
        parent.size += node.size
        if parent.kind == "list":
            parent.value.append(node)
        elif pending[0] is None:
            pending[0] = node
        else:
            key, pending[0] = pending[0], None
            self._entry(parent, key, node)

    def _entry(self, parent: Node, key: Node, node: Node) -> None:
        if key.kind != "scalar" or key.value is None:
            hint = None
            if key.kind == "mapping":
                hint = 'put an expression in quotes: "{{ … }}"'
            self.problems.append(Problem("a key must be text", key.position, hint, file=self._file))
            return
        name = key.value if isinstance(key.value, str) else _key_text(key.value)
        first = parent.keys.get(name)
        if first is not None:
            self.problems.append(
                Problem(
                    f'duplicate key "{name}"',
                    key.position,
                    f"the first is on line {first.line}",
                    file=self._file,
                    length=len(name),
                )
            )
            return
        if name == "<<" and key.style is None:
            self.problems.append(
                Problem(
                    "merge keys are not part of YAML 1.2",
                    key.position,
                    "write the keys out, or use an alias for a whole value",
                    file=self._file,
                    length=2,
                )
            )
            return
        parent.keys[name] = key
        parent.value[name] = node

    def _opened(self, event: Any, kind: str) -> Node:
        if event.tag is not None and not event.implicit:
            self._refuse_tag(event)
        node = Node(kind, {} if kind == "mapping" else [], event.start_mark)
        node.style = "flow" if event.flow_style else "block"
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any) -> Node:
        node = Node("scalar", event.value, event.start_mark)
        node.end = event.end_mark.index
        node.style = event.style or None
        self._count(event, 1)
        if event.tag is not None and event.tag not in (_STR_TAG, "!"):
            self._refuse_tag(event)
        elif event.implicit[0]:
            node.value = self._resolve(event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        self._aliases += 1
        if self._aliases > MOST_ALIASES:
            raise self._over(f"more than {MOST_ALIASES} aliases", event)
        found = self._anchors.get(event.anchor)
        if found is None:
            raise self._over(f'unknown anchor "{event.anchor}"', event)
        if found.kind != "scalar" and found.end == found.start:
            raise self._over(f'the anchor "{event.anchor}" contains itself', event)
        self._count(event, found.size)
        return found

    def _count(self, event: Any, size: int) -> None:
        self._total += size
        if self._total > MOST_NODES:
            raise self._over(f"more than {MOST_NODES:,} values, aliases spelled out", event)

    def _resolve(self, event: Any) -> Any:
        """A plain scalar's value by YAML 1.2's core schema."""
        text: str = event.value
        if text in _CONSTANTS:
            return _CONSTANTS[text]
        if text[0] not in _NUMBER_START:
            return text
        if _INT.match(text):
            if len(text) > _MOST_DIGITS:
                raise self._over(f"a number of more than {_MOST_DIGITS} digits", event)
            return int(text)
        if _OCTAL_OR_HEX.match(text):
            if len(text) > _MOST_DIGITS:
                raise self._over(f"a number of more than {_MOST_DIGITS} digits", event)
            return int(text, 0)
        if _FLOAT.match(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise self._over("a number too large", event)
            return value
        if _NOT_FINITE.match(text):
            raise self._over(f"{text} is not a JSON number", event)
        return text

    def _refuse_tag(self, event: Any) -> None:
        mark = event.start_mark
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        self.problems.append(
            Problem(
                f"the tag {tag} is not allowed", Position(mark.line + 1, mark.column + 1), file=self._file
            )
        )

    def _over(self, message: str, event: Any) -> InvalidFlow:
        mark = event.start_mark
        return _refused(message, Position(mark.line + 1, mark.column + 1), self._file)


def _key_text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _syntax_problem(error: yaml.MarkedYAMLError, source: str, file: str | None) -> Problem:
    """A syntax error in words that help."""
    mark = error.problem_mark or error.context_mark
    line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    text = (error.problem or "cannot be read").strip()
    lines = source.splitlines()
    here = lines[line - 1] if 0 < line <= len(lines) else ""
    hint = None
    if "\t" in here[: len(here) - len(here.lstrip())] or "\\t" in text:
        hint = "indent with spaces, not tabs"
    elif "{{" in here and ("mapping" in text or "expected" in text or "did not find" in text):
        hint = 'put an expression in quotes: "{{ … }}"'
    elif "mapping values are not allowed" in text:
        hint = 'a text that holds ": " must be in quotes, or a line is indented wrongly'
    elif "could not find expected ':'" in text or "did not find expected key" in text:
        hint = "check the indentation and the quotes of this line and the one before"
    return Problem(f"not YAML: {text}", Position(line, column), hint, file=file)


# -- places inside texts


def _source_index(source: str, node: Node, offset: int) -> int:
    """The index in the source of one character of a text's value."""
    if not isinstance(node.value, str):
        return node.start
    raw = source[node.start : node.end]
    if node.style in ("|", ">"):
        return node.start + _in_block(raw, node.value, offset, folded=node.style == ">")
    return node.start + _in_line(raw, node.value, offset, node.style)


def _in_line(raw: str, value: str, offset: int, style: str | None) -> int:
    """The place in a plain or quoted text: follow the value through escapes and folded lines."""
    at = 1 if style in ("'", '"') else 0
    done = 0
    while done < offset and at < len(raw):
        if style == '"' and raw[at] == "\\":
            at, gained = _after_escape(raw, at)
            done += gained
        elif style == "'" and raw.startswith("''", at):
            at, done = at + 2, done + 1
        elif raw[at] in " \t\r\n":
            end = at
            while end < len(raw) and raw[end] in " \t\r\n":
                end += 1
            breaks = raw.count("\n", at, end)
            done += max(breaks - 1, 1) if breaks else end - at
            at = end - (done - offset if not breaks and done > offset else 0)
        else:
            at, done = at + 1, done + 1
    return min(at, len(raw))


def _after_escape(raw: str, at: int) -> tuple[int, int]:
    """Where an escape of a double-quoted text ends, and how many characters it gives."""
    letter = raw[at + 1 : at + 2]
    if letter in ("\n", "\r"):
        end = at + 2
        while end < len(raw) and raw[end] in " \t\r\n":
            end += 1
        return end, 0
    return at + 2 + {"x": 2, "u": 4, "U": 8}.get(letter, 0), 1


def _in_block(raw: str, value: str, offset: int, *, folded: bool) -> int:
    """The place in a block text: lines of the value are lines of the source without their indentation."""
    starts = [0] + [hit.end() for hit in re.finditer("\n", raw)]
    lines = raw.split("\n")
    body = [line for line in lines[1:] if line.strip()]
    indent = min((len(line) - len(line.lstrip(" ")) for line in body), default=0)
    if not folded:
        line = value.count("\n", 0, offset)
        column = offset - (value.rfind("\n", 0, offset) + 1)
        if line + 1 < len(starts):
            return starts[line + 1] + indent + column
        return 0
    # folded lines have lost their breaks: walk both texts, taking any run of blanks for one
    at = starts[1] + indent if len(starts) > 1 else 0
    for character in value[:offset]:
        if character.isspace():
            while at < len(raw) and raw[at].isspace():
                at += 1
        else:
            while at < len(raw) and raw[at] != character:
                at += 1
            at += 1
    while at < len(raw) and offset < len(value) and raw[at].isspace() and not value[offset].isspace():
        at += 1
    return min(at, len(raw))
