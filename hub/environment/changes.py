"""What an installation would change, and what of it the hub itself stands on.

The hub runs on the very packages that a plugin's installation may replace: one that asks for an older pydantic, say,
takes the hub down at its next start. So a plan is looked at before anything is done.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import metadata

HUB = "asynchub"
_EXTRA = re.compile(r"\bextra\s*==")


@dataclass(frozen=True, slots=True)
class Change:
    """One distribution: its version before and after; None where it is not installed."""

    name: str
    before: str | None
    after: str | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.name} {self.after}"
        if self.after is None:
            return f"{self.name} {self.before} goes"
        return f"{self.name} {self.before} → {self.after}"


@dataclass(frozen=True)
class Changes:
    """What would be other than it is."""

    items: tuple[Change, ...]

    @classmethod
    def of(cls, after: Mapping[str, str | None]) -> Changes:
        """The changes that lead to these versions."""
        before = installed()
        found = [
            Change(name, before.get(normal(name)), version)
            for name, version in after.items()
            if before.get(normal(name)) != version
        ]
        return cls(tuple(sorted(found, key=lambda change: normal(change.name))))

    def of_the_hubs_own(self) -> tuple[Change, ...]:
        """Those that replace or remove something which the hub itself needs."""
        own = own_distributions()
        return tuple(one for one in self.items if one.before is not None and normal(one.name) in own)


def installed() -> dict[str, str]:
    """Every installed distribution, by its normal name."""
    found: dict[str, str] = {}
    for one in metadata.distributions():
        # the first one on the path is the one that is imported
        found.setdefault(normal(one.metadata["Name"] or ""), one.version)
    return found


def own_distributions() -> frozenset[str]:
    """The hub and all that it needs, for its extras too where they are installed; by normal name."""
    there = installed()
    found, waiting = {HUB}, [HUB]
    while waiting:
        one = waiting.pop()
        try:
            requires = metadata.distribution(one).requires or ()
        except metadata.PackageNotFoundError:
            continue  # run from a checkout that is not installed
        for text in requires:
            name, is_asked_for = name_of(text), one == HUB or not _EXTRA.search(text)
            if is_asked_for and name in there and name not in found:
                found.add(name)
                waiting.append(name)
    return frozenset(found)


def constraints() -> str:
    """What keeps the hub and all that it needs as it is, in the form that tools read."""
    there = installed()
    return "".join(f"{name}=={there[name]}\n" for name in sorted(own_distributions() & there.keys()))


def dependents_of(names: Iterable[str]) -> dict[str, list[str]]:
    """Which other distributions need these."""
    wanted = {normal(name) for name in names}
    found: dict[str, list[str]] = {}
    for one in metadata.distributions():
        name = one.metadata["Name"] or ""
        for needed in {name_of(text) for text in one.requires or () if not _EXTRA.search(text)} & wanted:
            if normal(name) not in wanted:
                found.setdefault(needed, []).append(name)
    return found


def name_of(requirement: str) -> str:
    """The normal name in a requirement: of ``Pydantic[email]>=2`` it is ``pydantic``."""
    match = re.match(r"\s*([A-Za-z0-9][A-Za-z0-9._-]*)", requirement)
    return normal(match[1]) if match else ""


def normal(name: str) -> str:
    """A distribution's name as tools compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()
