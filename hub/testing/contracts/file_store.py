"""What every file store promises, as tests: subclass ``FileStoreContract`` and say how one is made.

::

    class TestMyStore(FileStoreContract):
        @pytest.fixture
        def make(self, tmp_path):
            return lambda: MyStore(tmp_path)     # each call: the same place, as after a restart
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from hub.errors import NotFound, StorageUnavailable
from hub.plugin.file_store import FileStore

_NAMES = (
    "plain.txt",
    "../up",
    "/etc/passwd",
    "",
    ".",
    "..",
    "x" * 400,
    "ümläut 名.json",
    "a\0b",
    "a\nb",
    "-rf",
)
_URIS = (
    "",
    "nonsense",
    "hub:///../secret",
    "file:///etc/passwd",
    "/etc/passwd",
    "hub:///aa/owner/none",
    "a\0b",
)


class FileStoreContract:
    """The tests; a subclass gives the fixture ``make``."""

    @pytest.fixture
    def make(self) -> Callable[[], FileStore]:
        """Makes the store anew over the same place, as a restart does."""
        raise NotImplementedError("give a fixture `make` that makes the store")

    @pytest.fixture
    async def store(self, make: Callable[[], FileStore]) -> AsyncIterator[FileStore]:
        store = make()
        yield store
        await store.close()

    @pytest.mark.parametrize("content", [b"", b"text", bytes(range(256)) * 40, b"\0" * 3_000_000])
    async def test_what_is_put_is_what_is_given(self, store: FileStore, content: bytes) -> None:
        uri = await store.put("owner", "name.bin", content)
        assert await store.get(uri) == content
        assert (await store.path(uri)).read_bytes() == content

    async def test_an_open_file_is_stored_from_where_it_stands(self, store: FileStore) -> None:
        content = random.Random(1).randbytes(5_000_000)
        file = io.BytesIO(content)
        file.seek(1_000)
        uri = await store.put_file("owner", "rest.bin", file)
        found = await store.get(uri)
        assert hashlib.sha256(found).digest() == hashlib.sha256(content[1_000:]).digest()

    async def test_one_name_twice_is_two_files(self, store: FileStore) -> None:
        first, second = await store.put("owner", "x", b"1"), await store.put("owner", "x", b"2")
        assert first != second
        assert (await store.get(first), await store.get(second)) == (b"1", b"2")

    @pytest.mark.parametrize("name", _NAMES, ids=repr)
    async def test_any_name_will_do(self, store: FileStore, name: str) -> None:
        uri = await store.put("owner", name, b"content")
        assert await store.get(uri) == b"content"
        assert uri.isprintable()

    @pytest.mark.parametrize("name", ["../" * depth + "escaped" for depth in (1, 2, 3, 4)])
    async def test_a_name_leads_nowhere_else(self, store: FileStore, name: str) -> None:
        await store.put("owner", name, b"content")
        above = [store.data_dir, *store.data_dir.parents[:2]]
        assert not [folder for folder in above if (folder / "escaped").exists()], f"{name} is followed"

    async def test_what_is_stored_is_there_after_a_restart(self, make: Callable[[], FileStore]) -> None:
        uri = await make().put("owner", "x", b"kept")
        again = make()
        assert await again.get(uri) == b"kept"
        assert await again.owners(before=_later()) == ["owner"]

    async def test_many_at_a_time_are_all_kept(self, store: FileStore) -> None:
        contents = [f"content {number}".encode() for number in range(40)]
        uris = await asyncio.gather(*(store.put("owner", "same", content) for content in contents))
        assert len(set(uris)) == 40
        assert await asyncio.gather(*(store.get(uri) for uri in uris)) == contents

    @pytest.mark.parametrize("uri", _URIS, ids=repr)
    async def test_what_it_never_gave_out_is_not_found(self, store: FileStore, uri: str) -> None:
        await store.put("owner", "x", b"content")
        for look in (store.get, store.path):
            with pytest.raises(NotFound):
                await look(uri)

    async def test_everything_of_an_owner_goes_and_nothing_else(self, store: FileStore) -> None:
        gone = [await store.put("one", name, b"1") for name in ("a", "b")]
        kept = await store.put("two", "a", b"2")
        await store.delete(["one", "never-seen"])
        await store.delete([])
        for uri in gone:
            with pytest.raises(NotFound):
                await store.get(uri)
        assert await store.get(kept) == b"2"
        assert await store.owners(before=_later()) == ["two"]

    async def test_an_owner_who_has_gone_may_come_back(self, store: FileStore) -> None:
        await store.put("one", "a", b"1")
        await store.delete(["one"])
        assert await store.get(await store.put("one", "a", b"2")) == b"2"

    async def test_owners_are_told_by_the_age_of_their_newest_file(self, store: FileStore) -> None:
        await store.put("owner", "x", b"1")
        assert await store.owners(before=_later()) == ["owner"]
        assert await store.owners(before=datetime.now(UTC) - timedelta(hours=1)) == []

    async def test_half_a_file_leaves_nothing_behind(self, store: FileStore) -> None:
        with pytest.raises(StorageUnavailable):
            await store.put_file("torn", "x", _Torn(b"x" * 100))
        await store.put("whole", "x", b"1")
        assert await store.owners(before=_later()) in (["whole"], ["torn", "whole"], ["whole", "torn"])
        await store.delete(["torn"])
        assert await store.owners(before=_later()) == ["whole"]

    async def test_it_does_not_keep_the_hub_from_everything_else(self, store: FileStore) -> None:
        turns = 0

        async def turn() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        turning = asyncio.create_task(turn())
        try:
            uri = await store.put("owner", "x", b"\1" * 8_000_000)
            await store.get(uri)
        finally:
            turning.cancel()
        assert turns > 3, "it reads or writes in the loop itself: use asyncio.to_thread, or await"


class _Torn(io.BytesIO):
    """A file that breaks off after its first block."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError("the source is gone")
        return super().read(10)

    def readinto(self, buffer: Any, /) -> int:
        raise OSError("the source is gone")


def _later() -> datetime:
    return datetime.now(UTC) + timedelta(hours=1)
