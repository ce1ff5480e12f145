"""What an examination finds: one line for each thing looked at, with what to do where it is not well."""

from __future__ import annotations

from dataclasses import dataclass

OK, WARN, FAIL = "ok", "warn", "fail"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    check: str
    state: str
    """``ok``, ``warn`` (it works, with a drawback) or ``fail`` (it will not work)."""
    found: str
    hint: str | None = None


def ok(check: str, found: str) -> Finding:
    return Finding(check, OK, found)


def warn(check: str, found: str, hint: str) -> Finding:
    return Finding(check, WARN, found, hint)


def fail(check: str, found: str, hint: str | None) -> Finding:
    return Finding(check, FAIL, found, hint)
