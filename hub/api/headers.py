"""Request headers as text."""

from __future__ import annotations

from email.message import Message
from functools import lru_cache

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


_LONGEST_KNOWN = 200


def media_type(text: str | None) -> tuple[str, str | None]:
    """The media type of a ``Content-Type`` in lower case without parameters, empty for none, and its charset.

    Not the server's own reading: Python's newer parser, which that asks, fails at a parameter like ``x*``.
    """
    if text is None:
        return "", None
    return _known(text) if len(text) <= _LONGEST_KNOWN else _media_type(text)


def _media_type(text: str) -> tuple[str, str | None]:
    if not text.strip():
        return "", None
    parsed = Message()
    parsed["Content-Type"] = "".join(c if c.isprintable() else "?" for c in text)
    charset = parsed.get_param("charset")
    return text.partition(";")[0].strip().lower(), charset if isinstance(charset, str) else None


# a sender says the same each time, and reading it takes longer than all of its other headers together
_known = lru_cache(maxsize=256)(_media_type)
