"""Secrets: their values for expressions and tasks, and masking them wherever text leaves the engine."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from hub.errors import NotFound
from hub.expressions import Request
from hub.model import jsontext
from hub.plugin.secrets import SecretSource

MASK = "******"
_SHORTEST = 4
"""Shorter values would turn every text into asterisks."""


class SecretVault:
    """Asks the sources in order; remembers every value it has handed out, for masking."""

    def __init__(self, sources: Sequence[SecretSource]) -> None:
        self._sources = sources
        self._spellings: set[str] = set()
        self._pattern: re.Pattern[str] | None = None
        for source in sources:
            for value in source.known_values():
                self._remember(value)

    async def get(self, name: str) -> str:
        """A secret's value. Raises ``NotFound`` naming it."""
        for source in self._sources:
            value = await source.get(name)
            if value is not None:
                self._remember(value)
                return value
        raise NotFound(
            f'no secret "{name}"',
            hint=f"set HUB_SECRET_{name}, HUB_SECRET_{name}_FILE, or a line {name}=… in secrets.env",
        )

    async def answer(self, request: Request) -> str:
        """The answer to what an expression asked for."""
        if request.function != "secret":
            raise NotFound(f'nothing answers the function "{request.function}"')
        return await self.get(request.arguments[0])

    def mask(self, text: str) -> str:
        """``text`` without any secret value in it, in the usual spellings."""
        if not self._spellings or not text:
            return text
        if self._pattern is None:
            longest_first = sorted(self._spellings, key=len, reverse=True)
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))
        return self._pattern.sub(MASK, text)

    def _remember(self, value: str) -> None:
        before = len(self._spellings)
        self._spellings.update(s for s in _spellings(value) if len(s) >= _SHORTEST)
        if len(self._spellings) != before:
            self._pattern = None


def _spellings(value: str) -> Iterable[str]:
    """How a value may show up: as it is, line by line, in JSON, in URLs, in base64."""
    yield value
    yield value.strip()
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= 8)
    yield jsontext.dumps(value)[1:-1]
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode().rstrip("=")
