"""Names and patterns of files below a working folder: ``report.csv``, ``out/*.json``, ``out/**``.

A name is relative and stays below its folder. In a pattern ``*``, ``?`` and ``[…]`` match inside one part of a
path, ``**`` matches any number of folders; a leading dot must be written, as in a shell.
"""

from __future__ import annotations

import fnmatch
import re
from dataclasses import dataclass
from functools import lru_cache

_LONGEST = 1024
_MAGIC = re.compile(r"[*?\[]")
_ANY_FOLDERS = "**"


def check_name(name: str) -> str:
    """A relative name as it was given. Raises ``ValueError`` for one that may lead out of its folder."""
    parts = name.split("/")
    if "\0" in name or len(name.encode("utf-8", "replace")) > _LONGEST:
        raise ValueError(f"a file's name holds no NUL character and at most {_LONGEST} bytes")
    if name.startswith("/"):
        raise ValueError(f'"{name}" is not relative: files stay in the working folder')
    if not all(parts) or any(part in (".", "..") for part in parts):
        raise ValueError(f'"{name}" is not a plain relative name: no "..", no "." and no empty part')
    return name


@dataclass(frozen=True, slots=True)
class Pattern:
    """A name or a pattern, matched part by part while a tree is walked.

    A state is the set of places in the pattern that the path so far may have led to; none means that nothing
    below can match.
    """

    text: str
    parts: tuple[str, ...]

    @property
    def is_name(self) -> bool:
        """Whether it names one file and has nothing to match."""
        return _MAGIC.search(self.text) is None

    def start(self) -> frozenset[int]:
        return self._closed({0})

    def step(self, state: frozenset[int], part: str) -> frozenset[int]:
        """The state after one more part of the path."""
        reached: set[int] = set()
        for place in state:
            if place == len(self.parts):
                continue
            if self.parts[place] == _ANY_FOLDERS:
                if not part.startswith("."):
                    reached.add(place)
            elif _matches(self.parts[place], part):
                reached.add(place + 1)
        return self._closed(reached)

    def is_match(self, state: frozenset[int]) -> bool:
        return len(self.parts) in state

    def _closed(self, places: set[int]) -> frozenset[int]:
        """With the places that are reached by letting ``**`` match nothing."""
        found = set(places)
        for place in range(len(self.parts)):
            if place in found and self.parts[place] == _ANY_FOLDERS:
                found.add(place + 1)
        return frozenset(found)


def pattern_of(text: str) -> Pattern:
    """A pattern out of its text. Raises ``ValueError``."""
    return Pattern(text, tuple(check_name(text).split("/")))


def _matches(pattern: str, part: str) -> bool:
    if part.startswith(".") and not pattern.startswith("."):
        return False
    return _compiled(pattern).match(part) is not None


@lru_cache(1000)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(pattern))
