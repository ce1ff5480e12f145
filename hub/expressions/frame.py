"""One evaluation: the names it sees, the answers it was given, and what is left of its budget.

A step is a fifth of a microsecond of plain work. What may take long is charged before it is done: the price
is what the work costs at its worst, so that a budget's worth of steps is a few milliseconds whatever they
are spent on.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any

from hub.errors import ExpressionLimit
from hub.expressions.values import LONGEST_TEXT, bounded_text, number_text, too_long
from hub.model import jsontext

MOST_STEPS = 25_000
MOST_SECONDS = 0.25
_WORTH_A_LOOK = 64
"""So many steps at once are worth a look at the clock."""
_A_MADE_VALUE = 5
_CHUNK = 65_536
_MOST_SEEN = 2_000
_CONTAINERS = (list, dict, tuple)
_CONTAINER_KINDS = set(_CONTAINERS)
_ENTRIES_A_STEP = 5
_A_LOOK = 8
_SHORT_BITS = 256


@dataclass(frozen=True, slots=True)
class Request:
    """What an expression asks of the caller."""

    function: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Weight:
    """About how much a value holds."""

    entries: int
    characters: int


class Frame:
    """One evaluation."""

    __slots__ = ("_made", "_started", "_written", "answers", "names", "steps")

    def __init__(self, names: Mapping[str, Any], answers: Mapping[Request, object]) -> None:
        self.names = names
        self.answers = answers
        self.steps = MOST_STEPS
        self._written = 0
        self._started = time.perf_counter()
        # by id: the lists and mappings that the template itself has put together, and so may hold one large
        # value many times; everything else is no larger than what it was read from
        self._made: dict[int, Any] = {}

    def charge(self, steps: int) -> None:
        """Pay for work. Raises ``ExpressionLimit`` when nothing is left."""
        self.steps -= steps
        if self.steps < 0:
            raise ExpressionLimit(f"the expression takes more than {MOST_STEPS:,} steps")
        if steps >= _WORTH_A_LOOK and time.perf_counter() - self._started > MOST_SECONDS:
            raise ExpressionLimit(f"the expression takes longer than {MOST_SECONDS} s")

    def made(self, value: Any) -> Any:
        """The value, known as one that the template has put together."""
        self.charge(_A_MADE_VALUE)
        self._made[id(value)] = value
        return value

    def append(self, out: list[str], text: str) -> None:
        """Add to the output."""
        self._written += len(text)
        if self._written > LONGEST_TEXT:
            raise too_long()
        if len(text) > _CHUNK:
            self.charge(len(text) // 1000)
        out.append(text)

    # -- writing

    def text(self, value: Any) -> str:
        """A value inside text: numbers, booleans and null as JSON spells them, lists and mappings as JSON."""
        if isinstance(value, str):
            return value
        if value is True:
            return "true"
        if value is False:
            return "false"
        if value is None:
            return "null"
        if isinstance(value, int):
            bits = value.bit_length()
            if bits > _SHORT_BITS:
                self.charge(bits // 32)
            return number_text(value)
        return repr(value) if isinstance(value, float) else self.json(value)

    def json(self, value: Any) -> str:
        """A value as JSON."""
        parts: list[str] = []
        self._write(value, parts, 0)
        return "".join(parts)

    def _write(self, value: Any, parts: list[str], size: int) -> int:
        """Write a value piece by piece where it may hold a large one many times; the size is known all along."""
        if isinstance(value, str):
            if len(value) > _CHUNK:
                return self._write_text(value, parts, size)
            self.charge(len(value) // (400 if value.isascii() else 30))
        elif isinstance(value, _CONTAINERS):
            weight = self._weigh(value)
            if id(value) in self._made and (weight.entries > _MOST_SEEN or weight.characters > _CHUNK):
                return self._write_made(value, parts, size)
            bounded_text(weight.characters + size)
            self.charge(weight.entries // _ENTRIES_A_STEP + weight.characters // 500)
        text = jsontext.dumps(value)
        parts.append(text)
        self.charge(len(text) // 500)
        bounded_text(size + len(text))
        return size + len(text)

    def _write_made(self, value: Any, parts: list[str], size: int) -> int:
        self.charge(5 * len(value) + 10)
        is_mapping = isinstance(value, dict)
        separator = "{" if is_mapping else "["
        for one in value.items() if is_mapping else value:
            parts.append(separator)
            if is_mapping:
                parts.append(jsontext.dumps(one[0]) + ":")
                one = one[1]
            size = self._write(one, parts, size + len(separator))
            separator = ","
        parts.append(("{}" if is_mapping else "[]") if not value else "}" if is_mapping else "]")
        return size + 1

    def _write_text(self, value: str, parts: list[str], size: int) -> int:
        """A long text a piece at a time: how much of it must be escaped, which costs most, shows on the way."""
        self.charge(len(value) // (400 if value.isascii() else 30))
        parts.append('"')
        for start in range(0, len(value), _CHUNK):
            chunk = jsontext.dumps(value[start : start + _CHUNK])[1:-1]
            self.charge(max(len(chunk) - _CHUNK, 0) // 30)
            parts.append(chunk)
            size += len(chunk)
            bounded_text(size)
        parts.append('"')
        return size + 2

    # -- comparing

    def equal(self, left: Any, right: Any) -> bool:
        """``left == right``."""
        if left is right:
            return True
        kind = type(left)
        if kind is str:
            self.charge(len(left) // 2000)
        elif kind in _CONTAINERS and type(right) is kind:
            if len(left) != len(right):
                return False
            if id(left) in self._made or id(right) in self._made:
                return self._equal_parts(left, right)
            self.charge(self._weigh(left).entries // _ENTRIES_A_STEP)
        return bool(left == right)

    def _equal_parts(self, left: Any, right: Any) -> bool:
        self.charge(len(left) + 1)
        if isinstance(left, dict):
            return all(key in right and self.equal(value, right[key]) for key, value in left.items())
        return all(self.equal(one, other) for one, other in zip(left, right, strict=True))

    def holds(self, container: Any, wanted: Any) -> bool:
        """``wanted in container``, for a list."""
        if isinstance(wanted, _CONTAINERS):
            self.charge(len(container) + 1)
            return any(self.equal(one, wanted) for one in container)
        self.charge(len(container) // 10)
        return wanted in container

    def to_order(self, left: Any, right: Any) -> tuple[Any, Any]:
        """What decides the order of two lists: themselves, or of those the template made the first different items."""
        if id(left) not in self._made and id(right) not in self._made:
            self.charge(self._weigh(left).entries // _ENTRIES_A_STEP)
            return left, right
        self.charge(min(len(left), len(right)) + 1)
        for one, other in zip(left, right, strict=False):
            if not self.equal(one, other):
                both = isinstance(one, list | tuple) and isinstance(other, list | tuple)
                return self.to_order(one, other) if both else (one, other)
        return len(left), len(right)

    def _weigh(self, value: Any) -> Weight:
        """About how much a list or mapping holds, seen level by level; what is below very much is estimated."""
        entries = characters = 0
        level: list[Any] = [value]
        while level:
            count = sum(map(len, level))
            entries += count + 4 * len(level)
            self.charge(_A_LOOK + count // _ENTRIES_A_STEP)
            if entries > _MOST_SEEN:
                return Weight(entries + count, characters)
            is_one = len(level) == 1
            values = _values_of(level[0]) if is_one else list(chain.from_iterable(map(_values_of, level)))
            kinds = set(map(type, values))
            level = (
                [one for one in values if isinstance(one, _CONTAINERS)] if kinds & _CONTAINER_KINDS else []
            )
            if str in kinds:
                characters += sum([len(one) for one in values if isinstance(one, str)])
        return Weight(entries, characters)


def _values_of(value: Any) -> Collection[Any]:
    return value.values() if isinstance(value, dict) else value
