"""What every secret source promises, as tests: subclass ``SecretSourceContract`` and say what it holds.

::

    class TestVault(SecretSourceContract):
        @pytest.fixture
        def source(self, tmp_path):
            return VaultSource({}, tmp_path, settings)

        @pytest.fixture
        def held(self):
            return {"TOKEN": "the value behind it"}
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from hub.plugin.secrets import SecretSource
from hub.testing.leaks import Leaks

_STRANGE = ("", "NEVER_SET", "../up", "a/b", "a\0b", "x" * 5_000, "lower", "Ü", "NAME=VALUE", "$(id)", "a\nb")


class SecretSourceContract:
    """The tests; a subclass gives the fixtures ``source`` and ``held``."""

    @pytest.fixture
    def source(self) -> SecretSource:
        raise NotImplementedError("give a fixture `source` with a source that holds something")

    @pytest.fixture
    def held(self) -> Mapping[str, str]:
        """What the source holds, at least two secrets."""
        raise NotImplementedError("give a fixture `held` with the secrets that the source holds")

    def test_it_has_a_name(self, source: SecretSource) -> None:
        assert isinstance(source.type, str)
        assert source.type

    async def test_what_it_holds_is_given_as_it_is(
        self, source: SecretSource, held: Mapping[str, str]
    ) -> None:
        assert len(held) >= 2, "hold at least two secrets"
        assert {name: await source.get(name) for name in held} == dict(held)

    @pytest.mark.parametrize("name", _STRANGE, ids=lambda name: repr(name[:20]))
    async def test_what_it_does_not_hold_is_none(self, source: SecretSource, name: str) -> None:
        # None and no error: the next source is asked
        assert await source.get(name) is None

    async def test_many_may_ask_at_a_time(self, source: SecretSource, held: Mapping[str, str]) -> None:
        names = [*held, "NEVER_SET"] * 20
        found = await asyncio.gather(*(source.get(name) for name in names))
        assert found == [held.get(name) for name in names]

    def test_values_it_names_are_its_own(self, source: SecretSource, held: Mapping[str, str]) -> None:
        known = list(source.known_values())
        assert all(isinstance(value, str) for value in known)

    async def test_it_shows_no_value(self, source: SecretSource, held: Mapping[str, str]) -> None:
        for name in held:
            await source.get(name)
        shown = f"{source!r} {source}"
        assert not [name for name, value in held.items() if value in shown], "a value is in its repr"

    async def test_it_leaves_nothing_behind(self, source: SecretSource, held: Mapping[str, str]) -> None:
        async with Leaks():
            for name in [*held, "NEVER_SET"]:
                await source.get(name)
