"""``HUB_SECRET_NAME``, ``HUB_SECRET_NAME_FILE``, then a line ``NAME=…`` in ``secrets.env`` beside ``hub.yaml``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hub.plugin import InvalidInput, SecretSource

_PREFIX = "HUB_SECRET_"
_FILE_SUFFIX = "_FILE"
FILE_NAME = "secrets.env"


class EnvironmentSource(SecretSource):
    """Secrets in the environment, or in files that it names."""

    type = "secrets.environment"

    async def get(self, name: str) -> str | None:
        value = self.environ.get(_PREFIX + name)
        if value is not None:
            return value
        path = self.environ.get(_PREFIX + name + _FILE_SUFFIX)
        return None if path is None else _read(self.folder / path, name)

    def known_values(self) -> Iterable[str]:
        for variable, value in self.environ.items():
            if not variable.startswith(_PREFIX):
                continue
            yield value
            if variable.endswith(_FILE_SUFFIX):
                try:
                    yield (self.folder / value).read_text(encoding="utf-8").rstrip("\r\n")
                except (OSError, UnicodeDecodeError):
                    continue  # said when the secret is asked for


class FileSource(SecretSource):
    """Secrets in ``secrets.env``, read again when it changes."""

    type = "secrets.file"

    def __init__(self, environ: Mapping[str, str], folder: Path, settings: Any = None) -> None:
        super().__init__(environ, folder, settings)
        self._stamp: tuple[int, int] | None = None
        self._values: dict[str, str] = {}

    async def get(self, name: str) -> str | None:
        return self._load().get(name)

    def known_values(self) -> Iterable[str]:
        return self._load().values()

    def _load(self) -> Mapping[str, str]:
        path = self.folder / FILE_NAME
        try:
            status = path.stat()
        except OSError:
            return {}
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp != self._stamp:
            self._values = parse_env(_read(path, FILE_NAME), str(path))
            self._stamp = stamp
        return self._values


def _read(path: Path, name: str) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise InvalidInput(
            f'the secret "{name}" is in {path}, which cannot be read: {error.strerror}'
        ) from error
    except UnicodeDecodeError as error:
        raise InvalidInput(f'the secret "{name}" is in {path}, which is not UTF-8 text') from error


def parse_env(text: str, file: str) -> dict[str, str]:
    """``NAME=value`` lines; ``#`` begins a comment line, quotes around a value are taken off.

    Raises ``InvalidInput`` with the line; never with what it holds.
    """
    values: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        name, equals, value = stripped.removeprefix("export ").partition("=")
        if not equals or not name.strip().isidentifier():
            raise InvalidInput(f"{file}:{number}:1  expected NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "'\"":
            value = value[1:-1]
        values[name.strip()] = value
    return values
