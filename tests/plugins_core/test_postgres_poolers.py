"""PostgreSQL behind a real pooler: one in session mode is taken, one in transaction mode is refused by name."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from hub.errors import StorageError
from hub.testing.storage_samples import started
from tests.services.postgres import PostgresServer
from tests.support.ports import free_port
from tests.support.postgres_nodes import opened


@asynccontextmanager
async def pooled(server: PostgresServer, database: str, mode: str, folder: Path) -> AsyncIterator[str]:
    """The database's URL through a real pooler."""
    program = shutil.which("pgbouncer")
    assert program is not None
    name, port = database.rpartition("/")[2], free_port()
    (folder / "users").write_text('"hub" ""\n')
    (folder / "pgbouncer.ini").write_text(
        f"[databases]\n{name} = host=127.0.0.1 port={server.port} dbname={name} user=hub\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = trust\n"
        f"auth_file = {folder / 'users'}\npool_mode = {mode}\nunix_socket_dir =\n"
        "ignore_startup_parameters = search_path,timezone,statement_timeout,lock_timeout,jit,"
        "standard_conforming_strings,idle_in_transaction_session_timeout,tcp_keepalives_idle,"
        "tcp_keepalives_interval,tcp_keepalives_count,extra_float_digits\n"
    )
    owner: dict[str, Any] = {}
    if os.geteuid() == 0:
        entry = pwd.getpwnam("nobody")
        owner = {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
        for path in (folder, *folder.iterdir()):
            os.chown(path, entry.pw_uid, entry.pw_gid)
    process = subprocess.Popen(
        [program, str(folder / "pgbouncer.ini")], stderr=subprocess.DEVNULL, cwd="/", **owner
    )
    try:
        async with asyncio.timeout(20):
            while True:
                with suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                assert process.poll() is None, "pgbouncer did not start"
                await asyncio.sleep(0.02)
        yield f"postgresql://hub@127.0.0.1:{port}/{name}"
    finally:
        process.terminate()
        process.wait()


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not on the path")
async def test_a_pooler_in_transaction_mode_is_refused_by_name(
    postgres_server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with pooled(postgres_server, database, "transaction", Path(name)) as url:
            with pytest.raises(StorageError, match="pooler in transaction mode"):
                async with opened(url, tmp_path):
                    pass


@pytest.mark.skipif(shutil.which("pgbouncer") is None, reason="pgbouncer is not on the path")
async def test_a_pooler_in_session_mode_is_taken(
    postgres_server: PostgresServer, database: str, tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory() as name:
        async with (
            pooled(postgres_server, database, "session", Path(name)) as url,
            opened(url, tmp_path) as storage,
        ):
            await started(storage)
            assert await storage.counts() == {"CREATED": 1}
            # this one keeps the schema's name to itself
            with pytest.raises(StorageError, match="does not reach the server"):
                async with opened(f"{url}?schema=other", tmp_path / "other"):
                    pass
