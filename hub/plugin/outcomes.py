"""Named outcomes: what a task raises to steer the engine.

Returning a value is success; any other exception is an error under the task's retry policy.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, ClassVar


class Outcome(Exception):
    """The root of the named outcomes."""

    default_reason: ClassVar[str] = "failed"

    def __init__(self, reason: str | None = None, *, outputs: Mapping[str, Any] | None = None) -> None:
        self.reason = reason or self.default_reason
        super().__init__(self.reason)
        self.outputs = outputs


class Fail(Outcome):
    """The task failed for good; retries are useless. ``outputs`` are kept."""


class Failed(Outcome):
    """The task failed; its retry policy decides. ``outputs`` are kept."""


class Skip(Outcome):
    """The task had nothing to do; it ends SKIPPED, which is no failure."""

    default_reason = "nothing to do"


MOST_ATTEMPTS = 10
"""How often a task without a retry policy is tried that raises ``Retry``."""


class Retry(Outcome):
    """Try again ``after`` a while, whatever the policy says of delays; its attempts still count.

    Without a policy a task is tried ``MOST_ATTEMPTS`` times.
    """

    default_reason = "to be tried again"

    def __init__(self, reason: str | None = None, *, after: timedelta) -> None:
        if not isinstance(after, timedelta):
            raise TypeError(f"Retry needs after= as a timedelta, got {type(after).__name__}")
        super().__init__(reason)
        self.after = after


class Wait(Outcome):
    """The task waits and costs nothing while it does.

    ``run`` is called again at ``until``, or once ``execution`` (one it started with ``ctx.start``) has ended;
    with both, at what comes first.
    """

    default_reason = "waiting"

    def __init__(
        self, reason: str | None = None, *, until: datetime | None = None, execution: str | None = None
    ) -> None:
        if until is None and execution is None:
            raise TypeError("Wait needs until= or execution=")
        if until is not None and until.utcoffset() is None:
            raise TypeError("Wait needs until= with a time zone, as ctx.now() gives it")
        super().__init__(reason)
        self.until = until
        self.execution = execution
