"""A secret source: where ``secret('NAME')`` gets its values."""

import json
from collections.abc import Iterable, Mapping

from hub.plugin import InvalidInput, SecretSource

FILE_NAME = "secrets.json"


class JsonFileSource(SecretSource):
    """Secrets in a JSON file beside ``hub.yaml``."""

    type = "example"

    async def get(self, name: str) -> str | None:
        return self._read().get(name)

    def known_values(self) -> Iterable[str]:
        # masked in logs from the start, before anybody asks for them
        return self._read().values()

    def _read(self) -> Mapping[str, str]:
        path = self.folder / FILE_NAME
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            # the error's own text may show a value
            raise InvalidInput(f"{path} is not JSON: line {getattr(error, 'lineno', 1)}") from None
        return {name: str(value) for name, value in found.items()}
