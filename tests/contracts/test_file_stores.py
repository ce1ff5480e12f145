"""The local file store keeps the contract, which notices bugs planted in it."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from hub.plugin import FileStore, NotFound, new_id
from hub.testing import FileStoreContract
from plugins_core.local import file_store
from plugins_core.local.file_store import LocalFileStore


class TestLocalFileStore(FileStoreContract):
    @pytest.fixture
    def make(self, tmp_path: Path) -> Callable[[], FileStore]:
        return lambda: LocalFileStore(tmp_path)


class TestLocalFileStoreWithItsProcess(FileStoreContract):
    """The same where a process beside the hub writes every file that is small enough."""

    @pytest.fixture
    async def make(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> AsyncIterator[Callable[[], FileStore]]:
        monkeypatch.setattr(file_store, "_BUSY", 1)
        made: list[FileStore] = []

        def make() -> FileStore:
            made.append(LocalFileStore(tmp_path))
            return made[-1]

        yield make
        for store in made:
            await store.close()


@asynccontextmanager
async def closing(store: LocalFileStore) -> AsyncIterator[LocalFileStore]:
    try:
        yield store
    finally:
        await store.close()


class CutsLongContent(LocalFileStore):
    async def put(self, owner: str, name: str, content: bytes) -> str:
        return await super().put(owner, name, content[:1_000_000])


class ReadsFromTheBeginning(LocalFileStore):
    async def put_file(self, owner: str, name: str, file: BinaryIO) -> str:
        file.seek(0)
        return await super().put_file(owner, name, file)


class OverwritesTheSameName(LocalFileStore):
    def _put(self, owner: str, name: str, content: Iterable[bytes]) -> str:
        uri = super()._put(owner, name, content)
        path = self._existing(uri)
        target = path.with_name("always-the-same")
        os.replace(path, target)
        return uri.replace(path.name, target.name)


class ForgetsOnRestart(LocalFileStore):
    def __init__(self, data_dir: Path, settings: Any = None) -> None:
        super().__init__(data_dir, settings)
        shutil.rmtree(self._root, ignore_errors=True)


class FindsAnything(LocalFileStore):
    async def get(self, uri: str) -> bytes:
        try:
            return await super().get(uri)
        except NotFound:
            return b""


class DeletesTooMuch(LocalFileStore):
    async def delete(self, owners: Sequence[str]) -> None:
        shutil.rmtree(self._root, ignore_errors=True)


class DeletesNothing(LocalFileStore):
    async def delete(self, owners: Sequence[str]) -> None:
        return None


class NamesEveryOwner(LocalFileStore):
    async def owners(self, *, before: datetime) -> list[str]:
        return await super().owners(before=datetime.now(UTC) + timedelta(hours=2))


class WritesInTheLoop(LocalFileStore):
    async def put(self, owner: str, name: str, content: bytes) -> str:
        return self._put(owner, name, [content])

    async def get(self, uri: str) -> bytes:
        return self._existing(uri).read_bytes()


class LeavesHalfAFile(LocalFileStore):
    def _put(self, owner: str, name: str, content: Iterable[bytes]) -> str:
        folder = self._folder(owner)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{new_id()}-x").open("wb") as file:
            for piece in content:
                file.write(piece)
        return super()._put(owner, name, content)


class TrustsTheName(LocalFileStore):
    def _put(self, owner: str, name: str, content: Iterable[bytes]) -> str:
        (self._root / owner).mkdir(parents=True, exist_ok=True)
        (self._root / owner / name).write_bytes(b"")
        return super()._put(owner, name, content)


PLANTED: list[tuple[type[LocalFileStore], str, dict[str, Any]]] = [
    (CutsLongContent, "test_what_is_put_is_what_is_given", {"content": b"\0" * 3_000_000}),
    (ReadsFromTheBeginning, "test_an_open_file_is_stored_from_where_it_stands", {}),
    (OverwritesTheSameName, "test_one_name_twice_is_two_files", {}),
    (OverwritesTheSameName, "test_many_at_a_time_are_all_kept", {}),
    (FindsAnything, "test_what_it_never_gave_out_is_not_found", {"uri": "nonsense"}),
    (DeletesTooMuch, "test_everything_of_an_owner_goes_and_nothing_else", {}),
    (DeletesNothing, "test_everything_of_an_owner_goes_and_nothing_else", {}),
    (NamesEveryOwner, "test_owners_are_told_by_the_age_of_their_newest_file", {}),
    (WritesInTheLoop, "test_it_does_not_keep_the_hub_from_everything_else", {}),
    (LeavesHalfAFile, "test_half_a_file_leaves_nothing_behind", {}),
    (TrustsTheName, "test_a_name_leads_nowhere_else", {"name": "../../../escaped"}),
    (TrustsTheName, "test_any_name_will_do", {"name": "a\0b"}),
]


@pytest.mark.parametrize(("planted", "test", "given"), PLANTED, ids=lambda one: getattr(one, "__name__", ""))
async def test_a_planted_bug_is_noticed(
    planted: type[LocalFileStore], test: str, given: dict[str, Any], tmp_path: Path
) -> None:
    sound, broken = tmp_path / "sound", tmp_path / "broken"
    for folder in (sound, broken):
        folder.mkdir()
    suite = FileStoreContract()
    async with closing(LocalFileStore(sound)) as store:
        await getattr(suite, test)(store, **given)
    async with closing(planted(broken)) as store:
        with pytest.raises((AssertionError, pytest.fail.Exception, OSError, ValueError, NotFound)):
            await getattr(suite, test)(store, **given)


async def test_a_store_that_forgets_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await FileStoreContract().test_what_is_stored_is_there_after_a_restart(
            lambda: ForgetsOnRestart(tmp_path)
        )
    await asyncio.sleep(0)
