"""Wait for what nobody named: ends of executions, told by the hub's stream, and files, told by the kernel."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.request import urlopen

from watchfiles import watch

from hub.model.execution import TERMINAL
from tests.support.hub_process import HubProcess


class Ends:
    """Executions of a namespace as they end; no end after the opening is missed."""

    def __init__(self, hub: HubProcess, stream: BinaryIO) -> None:
        self._hub = hub
        self._stream = stream
        self._seen: set[str] = set()

    def next(self) -> dict[str, Any]:
        """The next one that has ended, with its task runs."""
        for name, data in self._events():
            if name == "execution" and data["state"] in TERMINAL and data["id"] not in self._seen:
                self._seen.add(data["id"])
                found: dict[str, Any] = self._hub.call("GET", f"/api/v1/executions/{data['id']}").json
                return found
        raise AssertionError("the stream has ended")

    def _events(self) -> Iterator[tuple[str, dict[str, Any]]]:
        name = ""
        for raw in self._stream:
            field, _, value = raw.decode().rstrip("\n").partition(": ")
            if field == "event":
                name = value
            elif field == "data":
                yield name, json.loads(value)


@contextmanager
def ends_of(hub: HubProcess, namespace: str) -> Iterator[Ends]:
    """Follow a namespace; the hub has begun to tell when this returns."""
    with urlopen(f"{hub.url}/api/v1/stream?topic=execution&namespace={namespace}", timeout=60) as stream:
        following = Ends(hub, stream)
        assert next(following._events())[0] == "reset"
        yield following


def until(folder: Path, holds: Callable[[], bool]) -> None:
    """Wait until something about a folder is true."""
    if holds():
        return
    for _ in watch(folder, step=10, debounce=50, rust_timeout=500, yield_on_timeout=True):
        if holds():
            return
