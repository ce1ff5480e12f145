"""How many requests a webhook takes: exact over every period, in memory that its own limit bounds.

Counted by each node for itself, from its start or the flow's last change on.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta

from pydantic import Field

from hub.plugin import Duration, Model

_MOST = 100_000


class RateLimit(Model):
    """How many requests are taken."""

    limit: int = Field(ge=1, le=_MOST, description="How many requests in each period.")
    per: Duration = Field(
        timedelta(seconds=1), gt=timedelta(), le=timedelta(days=1), description="How long a period is."
    )


class Window:
    """When requests were taken, over one period."""

    def __init__(self) -> None:
        self._taken: deque[float] = deque()

    def take(self, limit: RateLimit, now: float) -> float | None:
        """How many seconds until the next request is taken; None when this one is. What is refused does not count."""
        period = limit.per.total_seconds()
        while self._taken and self._taken[0] <= now - period:
            self._taken.popleft()
        if len(self._taken) >= limit.limit:
            return self._taken[0] + period - now
        self._taken.append(now)
        return None
