"""Payloads: large data comes back as it was, nobody's data is taken for a reference, a full disk is said."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hub.engine.payloads import Payloads, is_put_away
from hub.errors import InvalidInput, NotFound, StorageUnavailable
from plugins_core.local.file_store import LocalFileStore


@pytest.fixture
def payloads(tmp_path: Path) -> Payloads:
    return Payloads(LocalFileStore(tmp_path))


def files(folder: Path) -> list[Path]:
    return [path for path in (folder / "files").rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "value",
    [
        {"small": 1},
        {"large": "x" * 100_000, "n": 2**80},
        {"$payload": 5},
        {"$payload": "hub:///../../etc/passwd", "size": 5},
        {"$payload": None, "more": True},
    ],
)
async def test_what_was_packed_comes_back_as_it_was(payloads: Payloads, value: dict[str, Any]) -> None:
    assert await payloads.unpack(await payloads.pack("id", "x", value)) == value


@pytest.mark.parametrize("value", [{"$payload": 5}, {"$payload": "hub:///x"}, {"$payload": "x", "size": "5"}])
async def test_what_is_no_reference_is_left_as_it_is(payloads: Payloads, value: dict[str, Any]) -> None:
    assert await payloads.unpack(value) == value


async def test_a_payload_whose_file_is_gone_or_broken_says_so(payloads: Payloads, tmp_path: Path) -> None:
    packed = await payloads.pack("id", "x", {"large": "x" * 100_000})
    [file] = files(tmp_path)
    file.write_text("{")
    with pytest.raises(NotFound, match="cannot be read any more"):
        await payloads.unpack(packed)
    file.unlink()
    with pytest.raises(NotFound, match="any more"):
        await payloads.unpack(packed)
    assert is_put_away(packed)


@pytest.fixture
def small_files() -> Iterator[None]:
    """A file of this process ends at 32 KiB, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (32 * 1024, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.usefixtures("small_files")
async def test_a_full_disk_is_a_storage_that_is_away_and_leaves_no_half_file(
    payloads: Payloads, tmp_path: Path
) -> None:
    with pytest.raises(StorageUnavailable, match="cannot keep"):
        await payloads.pack("id", "x", {"large": "x" * 100_000})
    assert files(tmp_path) == []


async def test_a_folder_that_cannot_be_made_is_a_storage_that_is_away(
    payloads: Payloads, tmp_path: Path
) -> None:
    (tmp_path / "files").write_text("in the way")
    with pytest.raises(StorageUnavailable):
        await payloads.pack("id", "x", {"large": "x" * 100_000})


async def test_data_that_is_nested_too_deep_is_refused(payloads: Payloads) -> None:
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    with pytest.raises(InvalidInput, match="too deep"):
        await payloads.pack("id", "x", {"deep": deep})
