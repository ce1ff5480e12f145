"""The local file store: what it gives out, and what it leaves behind when something goes wrong."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hub.errors import NotFound, StorageUnavailable
from plugins_core.local.file_store import LocalFileStore


class _Torn(io.BytesIO):
    """A file that breaks off after its first block."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the source is gone")
        return super().read(10)


async def test_a_file_is_stored_without_its_beginning_being_read_again(tmp_path: Path) -> None:
    store, file = LocalFileStore(tmp_path), io.BytesIO(b"head and body")
    file.seek(5)
    uri = await store.put_file("owner", "x.txt", file)
    assert await store.get(uri) == b"and body"
    assert (await store.path(uri)).read_bytes() == b"and body"


async def test_half_a_file_is_not_left_in_the_store(tmp_path: Path) -> None:
    store = LocalFileStore(tmp_path)
    with pytest.raises(StorageUnavailable, match="cannot keep"):
        await store.put_file("owner", "x.txt", _Torn(b"x" * 100))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "uri",
    [
        "hub:///",
        "hub:///ab",
        "hub:///ab/..",
        "hub:///../hub.instance",
        "hub:///ab/../../hub.instance",
        "hub:///ab/\0",
        "hub:///ab/" + "x" * 300,
        "file:///etc/passwd",
        "/etc/passwd",
        "",
    ],
)
async def test_only_what_is_in_the_store_is_found(tmp_path: Path, uri: str) -> None:
    (tmp_path / "hub.instance").write_text("x")
    store = LocalFileStore(tmp_path)
    await store.put("owner", "x", b"x")
    for look in (store.get, store.path):
        with pytest.raises(NotFound, match="is not in this file store"):
            await look(uri)
