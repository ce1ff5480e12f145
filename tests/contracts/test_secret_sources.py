"""The built-in secret sources keep the contract, which notices bugs planted in them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from hub.plugin import SecretSource
from hub.testing import SecretSourceContract
from plugins_core.secrets.sources import EnvironmentSource, FileSource

HELD = {"TOKEN": "the value of it", "OTHER": " with spaces and ümläuts "}


class TestEnvironmentSource(SecretSourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> SecretSource:
        (tmp_path / "other").write_text(HELD["OTHER"] + "\n")
        environ = {"HUB_SECRET_TOKEN": HELD["TOKEN"], "HUB_SECRET_OTHER_FILE": "other"}
        return EnvironmentSource(environ, tmp_path)

    @pytest.fixture
    def held(self) -> Mapping[str, str]:
        return HELD


class TestFileSource(SecretSourceContract):
    @pytest.fixture
    def source(self, tmp_path: Path) -> SecretSource:
        lines = [f'{name}="{value}"\n' for name, value in HELD.items()]
        (tmp_path / "secrets.env").write_text("# secrets\n" + "".join(lines))
        return FileSource({}, tmp_path)

    @pytest.fixture
    def held(self) -> Mapping[str, str]:
        return HELD


class Held(SecretSource):
    """A sound source over a mapping."""

    type = "planted"

    async def get(self, name: str) -> str | None:
        return HELD.get(name)

    def known_values(self) -> Iterable[str]:
        return HELD.values()


class TrimsValues(Held):
    async def get(self, name: str) -> str | None:
        found = HELD.get(name)
        return found.strip() if found else None


class GivesNothingAsText(Held):
    async def get(self, name: str) -> str | None:
        return HELD.get(name, "")


class RaisesForUnknown(Held):
    async def get(self, name: str) -> str | None:
        return HELD[name]


class MixesUpTheAskers(Held):
    async def get(self, name: str) -> str | None:
        self.asked = name
        await asyncio.sleep(0)
        return HELD.get(self.asked)


class ShowsItsValues(Held):
    def __repr__(self) -> str:
        return f"ShowsItsValues({HELD})"


class LeavesATask(Held):
    async def get(self, name: str) -> str | None:
        LEFT.append(asyncio.create_task(asyncio.sleep(60)))
        return HELD.get(name)


class NamesBytes(Held):
    def known_values(self) -> Iterable[Any]:
        return [value.encode() for value in HELD.values()]


LEFT: list[asyncio.Task[None]] = []
PLANTED: list[tuple[type[Held], str, dict[str, Any]]] = [
    (TrimsValues, "test_what_it_holds_is_given_as_it_is", {"held": HELD}),
    (GivesNothingAsText, "test_what_it_does_not_hold_is_none", {"name": "NEVER_SET"}),
    (RaisesForUnknown, "test_what_it_does_not_hold_is_none", {"name": "NEVER_SET"}),
    (MixesUpTheAskers, "test_many_may_ask_at_a_time", {"held": HELD}),
    (ShowsItsValues, "test_it_shows_no_value", {"held": HELD}),
    (LeavesATask, "test_it_leaves_nothing_behind", {"held": HELD}),
    (NamesBytes, "test_values_it_names_are_its_own", {"held": HELD}),
]


@pytest.mark.parametrize(("planted", "test", "given"), PLANTED, ids=lambda one: getattr(one, "__name__", ""))
async def test_a_planted_bug_is_noticed(
    planted: type[Held], test: str, given: dict[str, Any], tmp_path: Path
) -> None:
    for source, is_sound in ((Held({}, tmp_path), True), (planted({}, tmp_path), False)):
        try:
            found = getattr(SecretSourceContract(), test)(source, **given)
            if found is not None:
                await found
        except (AssertionError, KeyError):
            assert not is_sound
        else:
            assert is_sound, "nothing was noticed"
    for task in LEFT:
        task.cancel()
    LEFT.clear()
