"""The process beside the hub that writes files: used when many come, and nothing is lost where it dies."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hub.plugin import StorageUnavailable
from plugins_core.local import beside, file_store
from plugins_core.local.beside import FileProcess
from plugins_core.local.file_store import LocalFileStore

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="its memory is Linux's; elsewhere threads write"
)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[LocalFileStore]:
    store = LocalFileStore(tmp_path)
    yield store
    await store.close()


def process_of(store: LocalFileStore) -> FileProcess:
    assert store._beside is not None
    return store._beside


def content_of(number: int) -> bytes:
    return b"%d\n" % number * (20_000 + number)


async def put_many(store: LocalFileStore, numbers: range) -> list[str]:
    return await asyncio.gather(*(store.put(f"owner{n}", "x.txt", content_of(n)) for n in numbers))


async def all_are_kept(store: LocalFileStore, uris: list[str], numbers: range) -> bool:
    return [await store.get(uri) for uri in uris] == [content_of(n) for n in numbers]


def has_ended(pid: int, timeout: float = 10) -> bool:
    """Whether a process that is not ours to wait for ends in time."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([handle], [], [], timeout)[0])
    finally:
        os.close(handle)


async def test_one_file_at_a_time_starts_no_process(store: LocalFileStore) -> None:
    for number in range(5):
        await store.put("owner", "x", content_of(number))
    assert store._beside is None


async def test_many_at_a_time_are_written_by_the_process(store: LocalFileStore) -> None:
    numbers = range(40)
    assert await all_are_kept(store, await put_many(store, numbers), numbers)
    process = process_of(store)
    assert process.has_room
    # once it is there it takes one alone too; what is too large for it goes by a thread
    large = b"0" * (beside.LARGEST + 1)
    assert await store.get(await store.put("owner", "alone", b"1")) == b"1"
    assert await store.get(await store.put("owner", "large", large)) == large
    assert process_of(store) is process


async def test_a_process_that_is_killed_loses_no_file(store: LocalFileStore) -> None:
    numbers = range(60)
    putting = asyncio.ensure_future(put_many(store, numbers))
    while store._beside is None:
        await asyncio.sleep(0)
    first = process_of(store)
    os.kill(first.pid, signal.SIGSTOP)  # so that it surely has files in hand
    await asyncio.sleep(0.05)
    os.kill(first.pid, signal.SIGKILL)
    assert await all_are_kept(store, await putting, numbers)
    assert first.is_gone
    again = range(60, 80)
    assert await all_are_kept(store, await put_many(store, again), again)
    assert process_of(store).pid != first.pid


async def test_a_place_is_not_given_again_before_the_process_is_done_with_it(store: LocalFileStore) -> None:
    await put_many(store, range(8))
    process = process_of(store)
    os.kill(process.pid, signal.SIGSTOP)
    putting = [asyncio.ensure_future(store.put("given-up", "x", content_of(n))) for n in range(100, 116)]
    await asyncio.sleep(0)
    for one in putting:
        one.cancel()
    await asyncio.gather(*putting, return_exceptions=True)
    assert not process.has_room
    assert await store.get(await store.put("owner", "x", b"by a thread")) == b"by a thread"
    os.kill(process.pid, signal.SIGCONT)
    async with asyncio.timeout(10):
        while len(process._free) < 16:
            await asyncio.sleep(0.01)
    written = sorted(path.read_bytes() for path in (store.data_dir / "files").glob("*/given-up/*"))
    assert written == sorted(content_of(n) for n in range(100, 116))


async def test_what_the_disk_refuses_is_said_and_nothing_is_left(store: LocalFileStore) -> None:
    await put_many(store, range(8))
    folder = store._folder("refused")
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_bytes(b"a file where a folder has to be")
    with pytest.raises(StorageUnavailable, match=r"cannot keep x\.txt"):
        await store.put("refused", "x.txt", b"content")
    assert not process_of(store).is_gone
    assert folder.read_bytes() == b"a file where a folder has to be"


async def test_closing_ends_it_once_it_has_written_all(store: LocalFileStore) -> None:
    await put_many(store, range(8))
    pid = process_of(store).pid
    putting = [asyncio.ensure_future(store.put("owner", "x", content_of(n))) for n in range(10)]
    await asyncio.sleep(0)
    await store.close()
    uris = await asyncio.gather(*putting)
    assert [await store.get(uri) for uri in uris] == [content_of(n) for n in range(10)]
    assert not Path(f"/proc/{pid}").exists()
    await store.close()


async def test_without_the_system_s_memory_threads_write(
    store: LocalFileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(name: str, flags: int) -> int:
        raise OSError("no memory of this kind")

    monkeypatch.setattr(os, "memfd_create", refused)
    monkeypatch.setattr(file_store, "_BUSY", 1)
    numbers = range(10)
    assert await all_are_kept(store, await put_many(store, numbers), numbers)
    assert store._beside is None


def test_it_ends_with_a_hub_that_was_killed() -> None:
    program = (
        "import asyncio, os, signal\n"
        "from plugins_core.local.beside import FileProcess\n"
        "async def main():\n"
        "    print(FileProcess.start().pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    hub = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert hub.stdout is not None
    pid = int(hub.stdout.readline())
    hub.kill()
    hub.wait()
    assert has_ended(pid)
