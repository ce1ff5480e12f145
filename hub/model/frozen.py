"""Data that nobody changes, made for every event: the type checker keeps it frozen, the interpreter does not.

A frozen dataclass writes each of its fields past its own guard, which takes three times as long; a webhook's way
makes a score of them. mypy reads ``dataclass`` here as the standard one, so an assignment is an error all the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass as _dataclass
from typing import TYPE_CHECKING, TypeVar

T = TypeVar("T")

if TYPE_CHECKING:
    from dataclasses import dataclass as dataclass
else:

    def dataclass(*, frozen: bool, slots: bool) -> Callable[[type[T]], type[T]]:
        """The standard one with ``__eq__`` and ``__hash__``, without the guard against assignments."""
        assert frozen, "what may change is a dataclass of the standard library"
        return _dataclass(slots=slots, unsafe_hash=True)
