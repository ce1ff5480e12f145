"""Request headers as text."""

from __future__ import annotations

from multidict import MultiMapping


def readable(value: str) -> str:
    """A header's value as text that can be stored: bytes that are not UTF-8 are read as Latin-1."""
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "surrogateescape").decode("latin-1")
    return value


def joined(headers: MultiMapping[str]) -> dict[str, str]:
    """Headers by their names in lower case; several values of one name are joined by ", "."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        lower = name.lower()
        if not value.isascii():
            value = readable(value)
        found[lower] = f"{found[lower]}, {value}" if lower in found else value
    return found
