"""Read YAML 1.2 into plain data that knows where each piece stands, within bounds.

PyYAML's C parser gives events; nothing is constructed before the bounds are checked, so a bomb costs no more
than its own text. Differences to PyYAML's own loaders are YAML 1.2's: ``no`` is text, ``on`` a plain key,
dates are text. There are no merge keys and no custom tags.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import yaml

from hub.errors import InvalidFlow, Position, Problem

LARGEST = 1024 * 1024
DEEPEST = 50
MOST_ALIASES = 100
MOST_NODES = 30_000
MOST_PROBLEMS = 100
"""Past so many the file is not read on: they have one cause, and nobody reads more."""

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
_CORE = "tag:yaml.org,2002:"
_SCALAR_TAGS: dict[str, tuple[type, ...]] = {
    "!": (str,),
    f"{_CORE}str": (str,),
    f"{_CORE}int": (int,),
    f"{_CORE}float": (float, int),
    f"{_CORE}bool": (bool,),
    f"{_CORE}null": (type(None),),
}
_COLLECTION_TAGS = {"mapping": f"{_CORE}map", "list": f"{_CORE}seq"}
_LINE_END = re.compile(r"\r\n|\n|\r")
_PROPERTIES = re.compile(r"(?:(?:!<[^>\s]*>|[&!][^\s,\[\]{}]*)(?:\s|#[^\r\n]*)*){1,2}")
"""An anchor, a tag or both, and what may stand between them and their value."""
_NUMBER_START = frozenset("+-.0123456789")
_MOST_DIGITS = 1000


class Node:
    """A piece of YAML: ``value`` is a scalar's value, a list of nodes, or a mapping of nodes by key."""

    __slots__ = ("column", "end", "keys", "kind", "line", "size", "start", "style", "text", "value")

    def __init__(self, kind: str, value: Any, mark: Any) -> None:
        self.kind = kind
        """``scalar``, ``list`` or ``mapping``."""
        self.value = value
        self.line: int = mark.line + 1
        self.column: int = mark.column + 1
        self.start: int = mark.index
        self.end: int = mark.index
        self.style: str | None = None
        self.text: str | None = None
        """How a number, a boolean or null is written: ``007`` and ``1.10`` stay themselves where text is wanted."""
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

    __slots__ = ("_lines", "file", "problems", "root", "source")

    def __init__(self, source: str, root: Node, problems: list[Problem], file: str | None) -> None:
        self.source = source
        self.root = root
        self.problems = problems
        """Duplicate keys and the like: the rest of the file could be read."""
        self.file = file
        self._lines: Lines | None = None

    def place(self, node: Node, offset: int) -> Position:
        """Where the character ``offset`` of a text node's value stands in the file."""
        self._lines = self._lines or Lines(self.source)
        return self._lines.position(_source_index(self.source, node, offset))


class Lines:
    """Where the lines of a text begin, as editors count them."""

    __slots__ = ("_starts",)

    def __init__(self, source: str) -> None:
        self._starts = [0, *(hit.end() for hit in _LINE_END.finditer(source))]

    def position(self, index: int) -> Position:
        """The line and column of a character."""
        line = bisect_right(self._starts, index)
        return Position(line, index - self._starts[line - 1] + 1)


def parse(source: str, file: str | None = None) -> Document:
    """Parse one YAML document. Raises ``InvalidFlow`` for what cannot be read or is over a bound."""
    if len(source) > LARGEST or len(source.encode("utf-8", "surrogatepass")) > LARGEST:
        raise _refused("the file is larger than 1 MiB", Position(1, 1), file)
    if source.startswith("\ufeff"):
        source = source[1:]
    source = _TABS_ALONE.sub("", source) if "\t" in source else source
    text, restored = _without_old_breaks(source)
    builder = _Builder(text, file, restored)
    try:
        # what yaml.parse does, without asking for each event twice
        root = builder.build(iter(yaml.CSafeLoader(text).get_event, None))
    except yaml.MarkedYAMLError as error:
        raise InvalidFlow([*builder.problems, _syntax_problem(error, source, file)]) from error
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


_TABS_ALONE = re.compile(r"^\t[ \t]*(?=\r?$)", re.MULTILINE)
"""Lines of blanks that begin with a tab: empty ones to YAML 1.2, an error to the parser."""
_OLD_BREAKS = "\x85\u2028\u2029"


def _without_old_breaks(source: str) -> tuple[str, dict[int, str]]:
    """The source without what only YAML 1.1, which the parser reads, takes for ends of lines.

    Characters that the source does not use stand for them, one for one, so that places stay right; the
    second answer puts them back into values.
    """
    found = [character for character in _OLD_BREAKS if character in source]
    if not found:
        return source, {}
    unused = (chr(code) for code in range(0xE000, 0xF8FF) if chr(code) not in source)
    stand_ins = [next(unused) for _ in found]
    text = source.translate(str.maketrans("".join(found), "".join(stand_ins)))
    return text, {ord(new): old for new, old in zip(stand_ins, found, strict=True)}


def _refused(message: str, position: Position, file: str | None, hint: str | None = None) -> InvalidFlow:
    return InvalidFlow([Problem(message, position, hint, file=file)])


class _Builder:
    """Events to nodes, counting on the way."""

    def __init__(self, source: str, file: str | None, restored: dict[int, str]) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._restored = restored
        self._file = file
        self._lines: Lines | None = None
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

    def _problem(self, message: str, position: Position, hint: str | None = None, length: int = 1) -> None:
        self.problems.append(Problem(message, position, hint, file=self._file, length=length))
        if len(self.problems) >= MOST_PROBLEMS:
            raise InvalidFlow(
                [
                    *self.problems,
                    Problem("the file is not read on after so many problems", position, file=self._file),
                ]
            )

    def _move(self, node: Node, start: int) -> None:
        """Let a node begin at another character."""
        position = self._place(start)
        node.start, node.line, node.column = start, position.line, position.column

    def _place(self, index: int) -> Position:
        self._lines = self._lines or Lines(self._source)
        return self._lines.position(index)

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
            hint = 'put an expression in quotes: "{{ … }}"' if key.kind == "mapping" else None
            self._problem("a key must be text", key.position, hint)
            return
        name: str = key.value if key.text is None else key.text
        first = parent.keys.get(name)
        if first is not None:
            self._problem(
                f'duplicate key "{name}"', key.position, f"the first is on line {first.line}", len(name)
            )
            return
        if name == "<<" and key.style is None:
            hint = "write the keys out, or use an alias for a whole value"
            self._problem("merge keys are not part of YAML 1.2", key.position, hint, 2)
            return
        parent.keys[name] = key
        parent.value[name] = node

    def _opened(self, event: Any, kind: str) -> Node:
        if event.tag is not None and event.tag not in (_COLLECTION_TAGS[kind], "!"):
            self._refuse_tag(event)
        node = Node(kind, {} if kind == "mapping" else [], event.start_mark)
        node.style = "flow" if event.flow_style else "block"
        self._count(event, 1)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _scalar(self, event: Any) -> Node:
        if self._restored:
            event.value = event.value.translate(self._restored)
        node = Node("scalar", event.value, event.start_mark)
        node.end = event.end_mark.index
        node.style = event.style or None
        self._count(event, 1)
        if event.tag is not None:
            self._tagged(node, event)
        elif event.implicit[0]:
            self._resolve(node, event)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        if event.anchor is not None or event.tag is not None:
            before = _PROPERTIES.match(self._source, node.start, node.end)
            self._move(node, before.end() if before else node.start)
        return node

    def _tagged(self, node: Node, event: Any) -> None:
        """A scalar that says what it is."""
        kinds = _SCALAR_TAGS.get(event.tag)
        if kinds is None:
            self._refuse_tag(event)
        elif kinds != (str,):
            self._resolve(node, event)
            if type(node.value) not in kinds:
                self._problem(f"{_tag(event)} does not fit {event.value[:40]!r}", node.position)
            elif float in kinds:
                node.value = float(node.value)

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

    def _resolve(self, node: Node, event: Any) -> None:
        """A plain scalar's value by YAML 1.2's core schema."""
        text: str = event.value
        if text in _CONSTANTS:
            node.value, node.text = _CONSTANTS[text], text
        elif text[0] in _NUMBER_START:
            node.value = self._number(text, event)
            node.text = text if node.value is not text else None

    def _number(self, text: str, event: Any) -> Any:
        if _INT.match(text):
            self._bound_digits(text, event)
            return int(text)
        if _OCTAL_OR_HEX.match(text):
            self._bound_digits(text, event)
            return int(text, 0)
        if _FLOAT.match(text):
            value = float(text)
            if value in (float("inf"), float("-inf")):
                raise self._over("a number too large", event)
            return value
        if _NOT_FINITE.match(text):
            raise self._over(f"{text} is not a JSON number", event)
        return text

    def _bound_digits(self, text: str, event: Any) -> None:
        if len(text) > _MOST_DIGITS:
            raise self._over(f"a number of more than {_MOST_DIGITS} digits", event)

    def _refuse_tag(self, event: Any) -> None:
        self._problem(f"the tag {_tag(event)} is not allowed", self._position(event))

    def _over(self, message: str, event: Any) -> InvalidFlow:
        return InvalidFlow([*self.problems, Problem(message, self._position(event), file=self._file)])

    def _position(self, event: Any) -> Position:
        mark = event.start_mark
        return Position(mark.line + 1, mark.column + 1)


def _tag(event: Any) -> str:
    return str(event.tag).replace(_CORE, "!!")


def _syntax_problem(error: yaml.MarkedYAMLError, source: str, file: str | None) -> Problem:
    """A syntax error in words that help."""
    mark = error.problem_mark or error.context_mark
    place = Lines(source).position(mark.index) if mark is not None else Position(1, 1)
    line = place.line
    text = (error.problem or "cannot be read").strip()
    lines = _LINE_END.split(source)
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
    return Problem(f"not YAML: {text}", place, hint, file=file)


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
    starts = [hit.end() for hit in _LINE_END.finditer(raw)]
    indent = _indentation(raw, value)
    if not folded:
        line = value.count("\n", 0, offset)
        column = offset - (value.rfind("\n", 0, offset) + 1)
        return starts[line] + indent + column if line < len(starts) else 0
    # folded lines have lost their breaks: walk both texts, taking any run of blanks for one
    at = starts[0] + indent if starts else 0
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


def _indentation(raw: str, value: str) -> int:
    """What a block text's lines have lost: the blanks before its first words, less those that are its own."""
    first = next((line for line in _LINE_END.split(raw)[1:] if line.strip()), "")
    own = next((line for line in value.split("\n") if line.strip()), "")
    return max(_blanks(first) - _blanks(own), 0)


def _blanks(line: str) -> int:
    return len(line) - len(line.lstrip(" "))
