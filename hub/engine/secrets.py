"""Secrets: their values for expressions and tasks, and masking them wherever text leaves the engine."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from hub.errors import HubError, NotFound, PluginError
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
        # replaced, never changed: large answers are masked in threads
        self._spellings: frozenset[str] = frozenset()
        self._in_json: frozenset[str] = frozenset()
        self._pattern: re.Pattern[str] | None = None
        for source in sources:
            for value in source.known_values():
                self._remember(value)

    async def get(self, name: str) -> str:
        """A secret's value. Raises ``NotFound`` naming it."""
        for source in self._sources:
            value = await _ask(source, name)
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
        pattern = self._pattern
        return text if pattern is None or not text else pattern.sub(MASK, text)

    def mask_data(self, value: Any) -> Any:
        """Plain data without any secret value in it: texts and keys masked, numbers and booleans replaced."""
        if isinstance(value, str):
            return self.mask(value)
        if isinstance(value, Mapping):
            return {self.mask(str(key)): self.mask_data(item) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.mask_data(item) for item in value]
        if value is not None and jsontext.dumps(value) in self._spellings:
            return MASK
        return value

    def shows_in(self, json_text: str) -> bool:
        """Whether a JSON text may hold a secret value; quicker than to mask what it says."""
        return any(spelling in json_text for spelling in self._in_json)

    def _remember(self, value: str) -> None:
        new = {one for one in _spellings(value) if len(one) >= _SHORTEST} - self._spellings
        if not new:
            return
        self._spellings |= new
        self._in_json |= new | {jsontext.dumps(one)[1:-1] for one in new}
        longest_first = sorted(self._spellings, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))


async def _ask(source: SecretSource, name: str) -> str | None:
    """What a source answers. Raises ``PluginError`` naming it, where it fails in a way of its own."""
    try:
        value = await source.get(name)
    except HubError:
        raise
    except Exception as error:
        # what the source said may hold a value that nobody masks yet
        raise PluginError(
            f'the secret source "{source.type}" failed to look for "{name}": {type(error).__name__}'
        ) from error
    if value is not None and not isinstance(value, str):
        raise PluginError(f'the secret source "{source.type}" gave something else than text for "{name}"')
    return value


def _spellings(value: str) -> Iterable[str]:
    """How a value may show up: as it is, line by line, in JSON, in URLs, in base64."""
    yield value
    yield value.strip()
    yield from (line.strip() for line in value.splitlines() if len(line.strip()) >= 8)
    yield jsontext.dumps(value)[1:-1]
    yield quote(value, safe="")
    yield base64.b64encode(value.encode()).decode().rstrip("=")
