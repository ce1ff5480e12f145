"""What the hub itself uses of plugins: one that fails is named, and the hub does without it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hub.engine.secrets import SecretVault
from hub.errors import InvalidInput, PluginError
from hub.plugin import SecretSource
from hub.registry import PluginReport, Registry, make_file_store, make_secret_sources, run_cleaners
from hub.testing import harness
from plugins_core.local.file_store import LocalFileStore


class Fine(SecretSource):
    type = "fine"

    async def get(self, name: str) -> str | None:
        return "value"


class RaisesAtOnce(Fine):
    type = "acme.first"

    def __init__(self, environ: Mapping[str, str], folder: Path, settings: Any = None) -> None:
        raise RuntimeError("no vault")


class KnowsNonsense(Fine):
    type = "acme.second"

    def known_values(self) -> Iterable[str]:
        return [5]  # type: ignore[list-item]


class NamesTheLine(Fine):
    type = "acme.third"

    def known_values(self) -> Iterable[str]:
        raise InvalidInput("secrets.env:1:1  expected NAME=value")


def a_registry(*sources: type[SecretSource], **changes: Any) -> Registry:
    reports = tuple(PluginReport(name, f"asynchub-{name}", "1") for name in ("acme", "fine"))
    return replace(Registry.of(secret_sources=sources), plugins=reports, **changes)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        (RaisesAtOnce, "RuntimeError: no vault"),
        (KnowsNonsense, "TypeError: known_values gives something else than text"),
    ],
)
def test_a_secret_source_that_cannot_be_used_is_left_out_and_named(
    source: type[SecretSource], reason: str, tmp_path: Path
) -> None:
    made, registry = make_secret_sources(a_registry(source, Fine), {}, tmp_path)
    assert [one.type for one in made] == ["fine"]
    acme, fine = registry.plugins
    assert (acme.state, acme.error) == (
        "partly",
        f'secret source "{source.type}" cannot be used: {reason}',
    )
    assert (fine.state, fine.error) == ("loaded", None)


def test_a_secrets_file_that_is_wrong_is_for_its_author_to_mend(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"secrets\.env:1:1"):
        make_secret_sources(a_registry(NamesTheLine), {}, tmp_path)


async def test_a_secret_source_that_fails_when_it_is_asked_is_named(tmp_path: Path) -> None:
    class Fails(Fine):
        async def get(self, name: str) -> str | None:
            raise RuntimeError("hunter2 was refused")

    class GivesBytes(Fine):
        async def get(self, name: str) -> Any:
            return b"value"

    for source in (Fails, GivesBytes):
        with pytest.raises(PluginError, match='the secret source "fine"') as raised:
            await SecretVault([source({}, tmp_path)]).get("TOKEN")
        assert "hunter2" not in str(raised.value)


def test_a_file_store_that_cannot_be_used_names_its_plugin(tmp_path: Path) -> None:
    class Broken(LocalFileStore):
        def __init__(self, data_dir: Path, settings: Any = None) -> None:
            raise RuntimeError("no bucket")

    registry = a_registry(file_stores={"acme": Broken}, owners={Broken: "acme"})
    with pytest.raises(
        PluginError, match='plugin "acme": the file store "acme" cannot be used: RuntimeError'
    ):
        make_file_store(registry, "acme", tmp_path)


async def test_a_cleaner_that_fails_stops_neither_the_others_nor_the_hub() -> None:
    asked: list[str] = []

    async def raises(instance: str) -> int:
        raise RuntimeError("boom")

    async def gives_nothing(instance: str) -> Any:
        return None

    async def ends_two(instance: str) -> int:
        asked.append(instance)
        return 2

    registry = a_registry(cleaners={"acme": (raises, gives_nothing, len), "fine": (ends_two,)})
    assert await run_cleaners(registry, "here") == 2
    assert asked == ["here"]


async def test_a_hub_starts_without_a_secret_source_that_cannot_be_made(tmp_path: Path) -> None:
    from hub.registry import load_plugins

    registry = load_plugins({})
    registry = replace(registry, secret_sources=(RaisesAtOnce, *registry.secret_sources))
    async with harness(tmp_path, registry=registry, environ={"HUB_SECRET_A": "fine"}) as hub:
        async with asyncio.timeout(10):
            assert await hub.node.services.vault.get("A") == "fine"
