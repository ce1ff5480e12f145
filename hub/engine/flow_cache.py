"""The flow revisions that are ready to run: as many as fit, by the size of their texts.

Making one ready takes milliseconds, so all that fire every second are to stay. A ready flow takes some twenty to
thirty times the memory of its text (4 KiB for one task, 44 KiB for 25), which is why texts are counted, not flows.
"""

from __future__ import annotations

from collections import OrderedDict

from hub.engine.compiled import CompiledFlow
from hub.model.ids import FlowKey

_MOST_TEXT = 2 * 1024 * 1024
"""Characters of all texts together: some 50 MiB of memory, six hundred flows of a hundred lines."""


class FlowCache:
    """Compiled flows by key and revision; what was not asked for longest gives way."""

    def __init__(self, most_text: int = _MOST_TEXT) -> None:
        self._most = most_text
        self._text = 0
        self._flows: OrderedDict[tuple[FlowKey, int], tuple[CompiledFlow, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._flows)

    def get(self, key: FlowKey, revision: int) -> CompiledFlow | None:
        """A revision, where it is here."""
        found = self._flows.get((key, revision))
        if found is None:
            return None
        self._flows.move_to_end((key, revision))
        return found[0]

    def add(self, flow: CompiledFlow, *, text: int) -> None:
        """Keep a revision whose text has so many characters; the newest stays, however long it is."""
        name = (flow.flow.key, flow.revision)
        self._remove(name)
        self._flows[name] = (flow, text)
        self._text += text
        while self._text > self._most and len(self._flows) > 1:
            self._remove(next(iter(self._flows)))

    def forget(self, key: FlowKey) -> None:
        """Drop every revision of a flow."""
        for name in [name for name in self._flows if name[0] == key]:
            self._remove(name)

    def clear(self) -> None:
        """Drop everything."""
        self._flows.clear()
        self._text = 0

    def _remove(self, name: tuple[FlowKey, int]) -> None:
        _, text = self._flows.pop(name, (None, 0))
        self._text -= text
