"""Files that go into a script's working folder, and those that are kept when it has ended.

Everything is bounded and stays below the working folder. What a script made is looked at through the folder's
descriptor, which was opened before the script began, and no link is followed: only regular files are kept.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, TypeVar

from pydantic import Field, model_validator

from hub.plugin import InvalidInput, Model, TaskFiles
from plugins_core.script.patterns import Pattern, check_name, pattern_of

T = TypeVar("T")

MOST_FILES = 1000
MOST_PATTERNS = 100
LARGEST_TOTAL = 1024 * 1024 * 1024
_DEEPEST = 32
_MOST_ENTRIES = 100_000
_URI = re.compile(r"hub:///\S+\Z")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


class InputFile(Model):
    """What a file holds; one of both."""

    uri: str | None = Field(None, description="A file of the file store, `outputs.fetch.uri`.")
    text: str | None = Field(None, description="Its text, also where it looks like a URI.")

    @model_validator(mode="after")
    def _one(self) -> InputFile:
        if (self.uri is None) == (self.text is None):
            raise ValueError("give either uri or text")
        return self


InputFiles = Mapping[str, str | InputFile]


def check_input_files(files: InputFiles, taken: Collection[str]) -> None:
    """Raises ``ValueError`` for names that lead elsewhere or stand in each other's way."""
    if len(files) > MOST_FILES:
        raise ValueError(f"at most {MOST_FILES} files, got {len(files)}")
    for name in files:
        check_name(name)
        if name in taken:
            raise ValueError(f'"{name}" is written by the hub itself; take another name')
        parents = [str(parent) for parent in Path(name).parents[:-1]]
        for parent in parents:
            if parent in files or parent in taken:
                raise ValueError(f'"{name}": "{parent}" is a file, not a folder')


async def place_files(files: InputFiles, folder: Path, store: TaskFiles) -> None:
    """Write the files into a folder that nobody else writes to yet. Raises ``NotFound``, ``InvalidInput``."""
    left = LARGEST_TOTAL
    for name, given in files.items():
        uri = _uri_of(given)
        source = None if uri is None else await store.path(uri)
        size = source.stat().st_size if source is not None else len(_text_of(given).encode("utf-8"))
        left -= size
        if left < 0:
            raise InvalidInput(f"inputFiles: more than {_mib(LARGEST_TOTAL)} together, with {name}")
        await asyncio.to_thread(_place, folder / name, source, given)


def _place(target: Path, source: Path | None, given: str | InputFile) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source is not None:
        shutil.copyfile(source, target)
    else:
        target.write_text(_text_of(given), encoding="utf-8", newline="")


def _uri_of(given: str | InputFile) -> str | None:
    if isinstance(given, InputFile):
        return given.uri
    return given if _URI.match(given) else None


def _text_of(given: str | InputFile) -> str:
    return (given.text or "") if isinstance(given, InputFile) else given


@dataclass(slots=True)
class Kept:
    """What was kept: URIs by relative name, and the first thing that is wrong with the rest."""

    files: dict[str, str] = field(default_factory=dict)
    problem: str | None = None
    left_out: list[str] = field(default_factory=list)
    """What a pattern matched and is no regular file."""


def check_patterns(texts: Sequence[str]) -> None:
    """Raises ``ValueError`` for a name or pattern that leads out of the working folder."""
    if len(texts) > MOST_PATTERNS:
        raise ValueError(f"at most {MOST_PATTERNS} names and patterns, got {len(texts)}")
    for text in texts:
        pattern_of(text)


@contextmanager
def open_folder(folder: Path) -> Iterator[int]:
    """A descriptor of a folder, which stays its own whatever a script puts in its place."""
    with _opened(os.open(folder, _FOLDER)) as descriptor:
        yield descriptor


async def keep_files(
    folder: int, texts: Sequence[str], store: TaskFiles, *, but_named: Collection[str]
) -> Kept:
    """Store what the names and patterns match; patterns pass over ``but_named``, which the hub put there."""
    patterns = [pattern_of(text) for text in texts]
    search = await asyncio.to_thread(_search, folder, patterns, but_named)
    kept = Kept(problem=search.problem, left_out=search.left_out)
    if search.total > LARGEST_TOTAL:
        kept.problem = f"outputFiles: more than {_mib(LARGEST_TOTAL)} together"
    elif len(search.found) > MOST_FILES:
        kept.problem = f"outputFiles: more than {MOST_FILES} files"
    else:
        for name in sorted(search.found):
            # nothing of the script runs any more, so what was found is still there and does not grow
            with _below(folder, name, _open_file) as file:
                kept.files[name] = await store.put(name.rpartition("/")[2], file)
    return kept


class _Search:
    """One look through a working folder."""

    def __init__(self, patterns: Sequence[Pattern], but_named: Collection[str]) -> None:
        self.found: set[str] = set()
        self.total = 0
        self.problem: str | None = None
        self.left_out: list[str] = []
        self._patterns = patterns
        self._but_named = but_named
        self._entries = 0

    def names(self, folder: int) -> None:
        """Look at what is named; each must be there."""
        for pattern in self._patterns:
            if pattern.is_name:
                try:
                    self._take(pattern.text, _below(folder, pattern.text, _status))
                except OSError:
                    self._wrong(f'"{pattern.text}" was not written')

    def walk(self, folder: int) -> None:
        """Look at everything that a pattern may match."""
        start = {pattern: pattern.start() for pattern in self._patterns if not pattern.is_name}
        if start:
            self._walk(folder, "", start)

    def _walk(self, folder: int, prefix: str, before: Mapping[Pattern, frozenset[int]]) -> None:
        with os.scandir(folder) as entries:
            for entry in entries:
                self._entries += 1
                if self._entries > _MOST_ENTRIES:
                    self._wrong(f"more than {_MOST_ENTRIES} files to look through; write narrower patterns")
                    return
                states = {
                    pattern: state
                    for pattern, places in before.items()
                    if (state := pattern.step(places, entry.name))
                }
                if not states:
                    continue
                name = prefix + entry.name
                if entry.is_dir(follow_symlinks=False):
                    if name.count("/") < _DEEPEST:
                        self._enter(folder, entry.name, name, states)
                elif name not in self._but_named and any(p.is_match(s) for p, s in states.items()):
                    self._match(name, entry)

    def _enter(self, folder: int, part: str, name: str, states: Mapping[Pattern, frozenset[int]]) -> None:
        with suppress(OSError), _opened(os.open(part, _FOLDER, dir_fd=folder)) as below:
            self._walk(below, f"{name}/", states)

    def _match(self, name: str, entry: os.DirEntry[str]) -> None:
        with suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode) or not _is_text(name):
                self.left_out.append(name)
            else:
                self._take(name, status)

    def _take(self, name: str, status: os.stat_result) -> None:
        if stat.S_ISLNK(status.st_mode):
            self._wrong(f'"{name}" is a symbolic link; only regular files are kept')
        elif stat.S_ISDIR(status.st_mode):
            self._wrong(f'"{name}" is a folder; write "{name}/**" to keep what is in it')
        elif not stat.S_ISREG(status.st_mode):
            self._wrong(f'"{name}" is not a regular file')
        elif name not in self.found:
            self.found.add(name)
            self.total += status.st_size

    def _wrong(self, problem: str) -> None:
        self.problem = self.problem or f"outputFiles: {problem}"


def _search(folder: int, patterns: Sequence[Pattern], but_named: Collection[str]) -> _Search:
    search = _Search(patterns, but_named)
    search.names(folder)
    with suppress(OSError):  # the script has removed its own folder
        search.walk(folder)
    return search


def _below(folder: int, name: str, look: Callable[[str, int], T]) -> T:
    """What ``look`` finds at a name below a folder; no folder on the way may be a link. Raises ``OSError``."""
    first, slash, rest = name.partition("/")
    if not slash:
        return look(first, folder)
    with _opened(os.open(first, _FOLDER, dir_fd=folder)) as below:
        return _below(below, rest, look)


def _status(name: str, folder: int) -> os.stat_result:
    return os.stat(name, dir_fd=folder, follow_symlinks=False)


def _open_file(name: str, folder: int) -> BinaryIO:
    file = open(os.open(name, _FILE, dir_fd=folder), "rb")
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(f"{name} is not a regular file any more")
    return file


@contextmanager
def _opened(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _is_text(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _mib(size: int) -> str:
    return f"{size // 1024 // 1024} MiB"
