"""Read ``/api/v1/stream``: commits, each whole, with the number to go on from."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Mapping
from dataclasses import dataclass
from typing import Any

from hub.model import jsontext


@dataclass(frozen=True, slots=True)
class Commit:
    """What one commit of the hub changed, of what was asked for."""

    number: int
    """Where to go on from, once this has been dealt with."""
    changes: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    """Topic and data of each."""
    is_reset: bool = False
    """Nothing is known of what came before: begin anew from here."""


async def read_commits(lines: AsyncIterable[bytes]) -> AsyncGenerator[Commit, None]:
    """The commits of a stream's lines; one that breaks off in the middle is none."""
    topic, data, number = "", "", None
    changes: list[tuple[str, Mapping[str, Any]]] = []
    is_reset = False
    async for raw in lines:
        line = raw.decode("utf-8").rstrip("\r\n")
        name, _, value = line.partition(": ")
        if name == "event":
            topic = value
        elif name == "data":
            data = value
        elif name == "id":
            number = int(value)
        if line:
            continue
        if topic == "reset":
            is_reset = True
        elif topic:
            changes.append((topic, jsontext.loads(data)))
        topic, data = "", ""
        if number is not None:
            yield Commit(number, tuple(changes), is_reset)
            number, changes, is_reset = None, [], False
