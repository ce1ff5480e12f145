"""The jars of the test broker: fetched once by plain HTTP, each checked against the list that is kept here.

Called by the broker before it starts. No Maven is needed; a mirror is taken from ``MAVEN_MIRROR_URL`` or from the
user's Maven settings, and a jar that Maven has fetched before is copied from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import xml.etree.ElementTree as ElementTree
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

CACHE = Path(__file__).parents[2] / ".cache" / "kafka"
_LIST = Path(__file__).with_name("kafka-jars.txt")
_CENTRAL = "https://repo1.maven.org/maven2"
_SETTINGS = Path.home() / ".m2" / "settings.xml"
_FETCHED_BY_MAVEN = Path.home() / ".m2" / "repository"
_TRIES = 3


def fetch_jars(folder: Path = CACHE) -> Path:
    """The folder that holds every jar of the list, filled where it is not."""
    names = [line.split() for line in _LIST.read_text().splitlines()]
    # a list that has changed is another set of jars
    whole = folder / f"lib-{hashlib.sha256(_LIST.read_bytes()).hexdigest()[:12]}"
    if whole.is_dir():
        return whole
    part = folder / f"part-{os.getpid()}"
    part.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: _fetch(one[1], one[0], part), names))
    try:
        part.rename(whole)
    except OSError:
        shutil.rmtree(part)  # another process was quicker
    return whole


def _fetch(path: str, digest: str, folder: Path) -> None:
    target = folder / path.rsplit("/", 1)[1]
    known = _FETCHED_BY_MAVEN / path
    if known.is_file() and _digest(known.read_bytes()) == digest:
        shutil.copyfile(known, target)
        return
    content = _download(f"{_repository()}/{path}")
    if _digest(content) != digest:
        raise RuntimeError(
            f"{path} is another file than the list says: expected sha256 {digest}, got {_digest(content)}"
        )
    target.write_bytes(content)


def _download(url: str) -> bytes:
    for tried in range(_TRIES):
        try:
            with urlopen(url, timeout=120) as answer:
                content: bytes = answer.read()
                return content
        except URLError as error:
            if tried + 1 == _TRIES:
                raise RuntimeError(
                    f"{url} cannot be fetched: {error}; name a mirror in MAVEN_MIRROR_URL"
                ) from error
    raise AssertionError


def _repository() -> str:
    given = os.environ.get("MAVEN_MIRROR_URL")
    if given:
        return given.rstrip("/")
    if _SETTINGS.is_file():
        for element in ElementTree.parse(_SETTINGS).iter():
            if element.tag.endswith("}mirror") or element.tag == "mirror":
                found = next((one.text for one in element if one.tag.endswith("url")), None)
                if found:
                    return found.rstrip("/")
    return _CENTRAL


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
