"""What a killed hub left behind is gone when the next one has started: its processes first, then their folders."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hub.registry import load_plugins
from hub.testing import harness
from tests.support.deep import cleared, make_deep


async def test_processes_are_ended_before_the_folders_that_they_work_in_are_removed(tmp_path: Path) -> None:
    """A process that goes on in a folder which is gone does harm, and one may make it anew."""
    left = tmp_path / "work" / "run-before"
    left.mkdir(parents=True)
    seen: list[bool] = []

    async def ends_the_last(instance: str) -> int:
        seen.append(left.is_dir())
        (left / "last words").write_text("written while it was ended")
        return 1

    registry = load_plugins({})
    registry = replace(registry, cleaners={**registry.cleaners, "test": (ends_the_last,)})
    async with harness(tmp_path, registry=registry) as hub:
        assert list(hub.node.services.work_dir.iterdir()) == []
    assert seen == [True]


async def test_a_folder_of_any_depth_does_not_keep_a_hub_from_starting(tmp_path: Path) -> None:
    with cleared(tmp_path / "work"):
        make_deep(tmp_path / "work" / "run-before")
        async with harness(tmp_path) as hub:
            assert list(hub.node.services.work_dir.iterdir()) == []


async def test_what_is_in_the_place_of_the_folder_does_not_keep_a_hub_from_starting(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("mine")
    work = tmp_path / "work"
    for make in (
        lambda: work.write_text("a file"),
        lambda: work.symlink_to("elsewhere"),
        lambda: work.symlink_to("nowhere"),
    ):
        make()
        async with harness(tmp_path):
            assert work.is_dir()
            assert not work.is_symlink()
        work.rmdir()
    assert (tmp_path / "elsewhere" / "file").read_text() == "mine"


async def test_what_cannot_be_removed_does_not_keep_a_hub_from_starting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work" / "run-before").mkdir(parents=True)
    real = os.rmdir

    def busy(path: object, **given: object) -> None:
        if str(path) == "run-before":
            raise OSError(16, "Device or resource busy")
        real(path, **given)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", busy)
    async with harness(tmp_path) as hub:
        assert [one.name for one in hub.node.services.work_dir.iterdir()] == ["run-before"]
