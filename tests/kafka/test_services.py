"""What the test broker is made of: jars are fetched from a mirror where one is named, and only the right ones."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.services import jars


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that a mirror serves; the list asks for ``a/b.jar`` whose content is ``right``."""
    served = tmp_path / "mirror"
    (served / "a").mkdir(parents=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Silent, directory=str(served)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    listed = tmp_path / "jars.txt"
    listed.write_text(f"{hashlib.sha256(b'right').hexdigest()}  a/b.jar\n")
    monkeypatch.setattr(jars, "_LIST", listed)
    monkeypatch.setattr(jars, "_FETCHED_BY_MAVEN", tmp_path / "m2")
    monkeypatch.setenv("MAVEN_MIRROR_URL", f"http://127.0.0.1:{server.server_port}/")
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_jar_comes_from_the_mirror_once(mirror: Path, tmp_path: Path) -> None:
    (mirror / "a" / "b.jar").write_bytes(b"right")
    folder = jars.fetch_jars(tmp_path / "cache")
    assert (folder / "b.jar").read_bytes() == b"right"
    (mirror / "a" / "b.jar").unlink()
    assert jars.fetch_jars(tmp_path / "cache") == folder


def test_a_jar_that_maven_has_is_not_fetched(mirror: Path, tmp_path: Path) -> None:
    (tmp_path / "m2" / "a").mkdir(parents=True)
    (tmp_path / "m2" / "a" / "b.jar").write_bytes(b"right")
    assert (jars.fetch_jars(tmp_path / "cache") / "b.jar").read_bytes() == b"right"


def test_another_jar_than_the_list_says_is_refused(mirror: Path, tmp_path: Path) -> None:
    (mirror / "a" / "b.jar").write_bytes(b"wrong")
    with pytest.raises(RuntimeError, match=r"a/b\.jar is another file than the list says: expected sha256"):
        jars.fetch_jars(tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("lib-*"))
