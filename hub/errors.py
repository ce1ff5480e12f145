"""Every exception of the hub, and the shape of a finding about a user's file.

    HubError
    ├── InvalidInput            bad input: what, where, expected, got, what to do
    │   ├── InvalidFlow         a flow that cannot be saved; carries its problems
    │   ├── InvalidSettings     hub.yaml or HUB_* that cannot be used
    │   └── ExpressionError     an expression that cannot be parsed, checked or evaluated
    │       ├── ExpressionLimit     … that used up its budget of steps, depth, size or time
    │       └── MissingMember       … that names what the data does not hold
    ├── PluginError             a plugin that cannot be loaded or used
    ├── NotFound                a flow, execution, event … that does not exist
    ├── Conflict                the thing exists in another form (409)
    ├── Denied                  not allowed (401, 403)
    ├── StorageError            the storage refused or failed
    │   ├── StorageUnavailable      away for now: nothing was acknowledged, try again
    │   ├── StorageOverloaded       more is waiting than may wait (G12)
    │   ├── StorageLocked           another process holds the data folder
    │   └── FenceRefused            a write of an incarnation that no longer holds the execution
    ├── TooLarge                over a limit that the message names
    ├── NotYours                code of a plugin laid hands on what is the hub's own
    ├── TriggerUnusable         a trigger that cannot be built now; it is tried again
    └── Unreachable             no hub answers at the address

Outcomes that a task raises (``Retry``, ``Skip``, ``Fail``, ``Wait``) are not errors; they live in ``hub.plugin``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice


class HubError(Exception):
    """The root of every error the hub raises on purpose."""

    code = "error"
    """A stable machine-readable word, used in API answers and JSON output."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class InvalidInput(HubError):
    """Input that cannot be used as it is."""

    code = "invalid"


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text file; line and column count from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding about a file: what is wrong, where, and what to do."""

    message: str
    position: Position
    hint: str | None = None
    severity: str = "error"
    """``error`` or ``warning``."""
    file: str | None = None
    length: int = 1
    """How many characters the caret line underlines."""

    def text(self) -> str:
        """One line, ``FILE:LINE:COLUMN  message (hint)``."""
        where = f"{self.file or '<text>'}:{self.position.line}:{self.position.column}"
        return f"{where}  {self.message}" + (f" ({self.hint})" if self.hint else "")


class InvalidFlow(InvalidInput):
    """A flow source that cannot be saved; ``problems`` holds every finding, in file order."""

    code = "invalid_flow"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        errors = [problem for problem in self.problems if problem.severity == "error"]
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        super().__init__(errors[0].text() + more if errors else "invalid flow")


class FlowLoop(InvalidFlow):
    """A flow that cannot be saved beside the others as they are now; once they change it may be."""


class InvalidSettings(InvalidInput):
    """Settings that cannot be used."""

    code = "invalid_settings"


class ExpressionError(InvalidInput):
    """An expression that cannot be parsed, checked or evaluated.

    ``start`` and ``end`` are character offsets into the template's text.
    """

    code = "invalid_expression"

    def __init__(self, message: str, *, start: int = 0, end: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.start = start
        self.end = max(end, start)


class ExpressionLimit(ExpressionError):
    """An expression used up its budget of steps, depth, size or time."""

    code = "expression_limit"


class MissingMember(ExpressionError):
    """An expression names what the data does not hold; ``??``, ``default`` and ``is defined`` accept it.

    The near name is looked for only when somebody reads the hint: most of these are never shown.
    """

    code = "missing_member"

    def __init__(
        self,
        message: str,
        *,
        start: int = 0,
        end: int = 0,
        hint: str | None = None,
        near: tuple[str, Iterable[object]] | None = None,
    ) -> None:
        self._near = near
        self._hint: str | None = None
        super().__init__(message, start=start, end=end, hint=hint)

    @property
    def hint(self) -> str | None:
        if self._hint is None and self._near is not None:
            name, known = self._near
            self._near = None
            short = [one for one in islice(known, 500) if isinstance(one, str) and len(one) <= 60]
            self._hint = did_you_mean(name, short) if len(name) <= 60 else None
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        self._hint = hint


class PluginError(HubError):
    """A plugin that cannot be loaded or used."""

    code = "plugin_error"


class NotFound(HubError):
    """The named thing does not exist."""

    code = "not_found"


class Conflict(HubError):
    """The named thing exists in another form."""

    code = "conflict"


class Denied(HubError):
    """The caller may not do this."""

    code = "denied"


class TooLarge(HubError):
    """Over a limit; the message names the limit."""

    code = "too_large"


class NotYours(HubError):
    """Code of a plugin laid hands on what is the hub's own, a connection of its storage, say: it is refused."""

    code = "not_yours"


class TriggerUnusable(HubError):
    """A trigger that is declared and cannot be built now; it is tried again."""

    code = "trigger_unusable"


class Unreachable(HubError):
    """No hub answers at the address."""

    code = "unreachable"


class StorageError(HubError):
    """The storage refused or failed."""

    code = "storage_error"


class StorageUnavailable(StorageError):
    """The storage is away for now; nothing was acknowledged."""

    code = "storage_unavailable"


class StorageOverloaded(StorageError):
    """More writes are waiting than may wait."""

    code = "overloaded"


class StorageLocked(StorageError):
    """Another process holds the data folder."""

    code = "storage_locked"


class FenceRefused(StorageError):
    """A write of an incarnation that no longer holds the execution."""

    code = "fence_refused"


def did_you_mean(name: str, candidates: Sequence[str]) -> str | None:
    """A hint with the nearest candidate, or None when none is near."""
    import difflib  # costs 10 ms of start-up and is needed only on errors

    near = difflib.get_close_matches(name, list(candidates), n=1, cutoff=0.6)
    if not near:
        lowered = {candidate.lower(): candidate for candidate in candidates}
        found = lowered.get(name.lower())
        near = [found] if found else []
    return f'did you mean "{near[0]}"?' if near else None
