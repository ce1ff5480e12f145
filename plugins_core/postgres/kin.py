"""What an end has to lock besides its own execution, remembered for those that this node moves.

Queue and parent of an execution never change, so what was once seen of them need not be asked for again.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

from hub.plugin import Claim

_MOST = 100_000

Relations = tuple[str | None, str | None]
"""Queue and parent."""


class Kin:
    """Queues and parents of executions."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, Relations] = OrderedDict()

    def note(self, execution_id: str, queue: str | None, parent: str | None) -> None:
        """An execution was born, or claimed."""
        self._known[execution_id] = (queue, parent)
        if len(self._known) > _MOST:
            self._known.popitem(last=False)

    def note_claim(self, claim: Claim, queue: str | None) -> None:
        """One was claimed."""
        parent = claim.execution.parent
        self.note(claim.execution.id, queue, parent.execution_id if parent is not None else None)

    def forget(self, execution_id: str) -> None:
        """One has ended, or was let go."""
        self._known.pop(execution_id, None)

    async def of(self, connection: Any, ids: Iterable[str]) -> Mapping[str, Relations]:
        """Those of executions, the stored ones of whom nothing is known."""
        found = {id: self._known.get(id) for id in ids}
        unknown = [id for id, relations in found.items() if relations is None]
        if unknown:
            rows = await connection.fetch(
                "SELECT id, queue, parent_id FROM executions WHERE id = ANY($1::text[])", unknown
            )
            found.update((row[0], (row[1], row[2])) for row in rows)
        return {id: relations for id, relations in found.items() if relations is not None}
