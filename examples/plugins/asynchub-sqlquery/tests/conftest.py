"""Real databases: a file of SQLite, and a PostgreSQL server of the tests' own on a free port."""

import os
import pwd
import shutil
import signal
import socket
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

TABLES = """
    CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total NUMERIC(10, 2));
    INSERT INTO orders VALUES (1, 'Ada', 10.50), (2, 'Bob''s', 20), (3, 'Ada', NULL);
"""


@pytest.fixture
def shop(tmp_path, plugin_settings):
    """A database of SQLite, called ``shop``."""
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as opened:
        opened.executescript(TABLES)
    opened.close()
    plugin_settings["sql"] = {"connections": {"shop": {"url": f"sqlite:///{path}"}}}
    return path


@pytest.fixture(scope="session")
def server():
    """The port of a PostgreSQL server; one of the machine's, or of ``HUB_TEST_POSTGRES_BIN``."""
    named = os.environ.get("HUB_TEST_POSTGRES_BIN")
    found = [Path(named)] if named else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("no PostgreSQL on this machine: install one, or set HUB_TEST_POSTGRES_BIN")
    binaries, owner = found[-1], _not_root()
    folder = Path(tempfile.mkdtemp(prefix="sqlquery-"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if owner:
        os.chown(folder, owner["user"], owner["group"])
    data = folder / "data"
    (folder / "password").write_text("open sesame")
    (folder / "password").chmod(0o644)
    made = [binaries / "initdb", "-D", data, "-U", "hub", "-A", "scram-sha-256", "--no-sync", "-E", "UTF8"]
    subprocess.run(
        [*made, f"--pwfile={folder / 'password'}"], cwd="/", check=True, capture_output=True, **owner
    )
    settings = [
        f"port={port}",
        "listen_addresses=127.0.0.1",
        f"unix_socket_directories={folder}",
        "fsync=off",
    ]
    options = [part for one in settings for part in ("-c", one)]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            [binaries / "postgres", "-D", data, *options], cwd="/", stdout=log, stderr=log, **owner
        )
    try:
        until = time.monotonic() + 30
        while subprocess.run([binaries / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]).returncode:
            assert time.monotonic() < until, (folder / "log").read_text()
            time.sleep(0.05)
        yield port
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)
        shutil.rmtree(folder)


def _not_root():
    """The server refuses to run as root."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("PostgreSQL refuses to run as root, and there is no other user")


@pytest.fixture
async def warehouse(server, plugin_settings, secrets):
    """A database of PostgreSQL, called ``warehouse``; the answer asks it directly."""
    import asyncpg

    secrets["WAREHOUSE_PASSWORD"] = "open sesame"
    url = f"postgresql://hub@127.0.0.1:{server}/postgres"
    session = await asyncpg.connect(url, password="open sesame")
    await session.execute(f"DROP TABLE IF EXISTS orders; {TABLES}")
    plugin_settings["sql"] = {
        "connections": {"warehouse": {"url": url, "passwordSecret": "WAREHOUSE_PASSWORD"}}
    }
    yield session
    await session.close()
