"""Tasks over files below ``files.roots``: read, write, move, delete, list; no link is ever followed."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import os
import stat
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, Literal

from pydantic import BaseModel, Field, model_validator

from hub.plugin import (
    Denied,
    Fail,
    Folders,
    InvalidInput,
    NotFound,
    Task,
    TaskContext,
    folder_of,
    iso,
    opened,
    remove_tree,
    tree_names,
)
from plugins_core.file.moving import Names, move_into, move_over
from plugins_core.file.patterns import Pattern

_MOST_BYTES = 16 * 1024 * 1024
_MOST_ENTRIES = 10_000
_STORED = "hub:///"
_BLOCK = 1024 * 1024


class Read(Task):
    """Read a file as text, or as base64 where it is none."""

    type: ClassVar[str] = "file.read"
    examples: ClassVar[tuple[str, ...]] = ("id: template\ntype: file.read\npath: templates/mail.txt",)

    path: str = Field(description="The file: below `files.roots`, or a URI of the file store.")
    encoding: Literal["utf-8", "latin-1", "base64"] = Field(
        "utf-8", description="How to read it; base64 takes any file."
    )
    max_bytes: int = Field(1024 * 1024, ge=1, le=_MOST_BYTES, description="The largest file to read.")

    class Output(BaseModel):
        content: str = Field(description="What it holds.")
        size: int = Field(description="Its size in bytes.")
        modifiedAt: str = Field(description="When it was last changed.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        is_stored = self.path.startswith(_STORED)
        path = await _stored(ctx, self.path) if is_stored else ctx.place(self.path)
        return await asyncio.to_thread(self._read, path)

    def _read(self, path: Path) -> dict[str, Any]:
        with opened(path, os.O_RDONLY) as handle:
            found = os.fstat(handle)
            with open(handle, "rb", closefd=False) as file:
                content = file.read(self.max_bytes + 1)
        if len(content) > self.max_bytes:
            raise Fail(
                f"{self.path} is larger than {self.max_bytes:,} bytes; raise maxBytes or read it in a script"
            )
        if self.encoding == "base64":
            text = base64.b64encode(content).decode()
        else:
            try:
                text = content.decode(self.encoding)
            except UnicodeDecodeError as error:
                raise Fail(f"{self.path} is not UTF-8 at byte {error.start}; read it as base64") from error
        return {"content": text, "size": len(content), "modifiedAt": _moment(found.st_mtime)}


class Write(Task):
    """Write a file: whole or not at all, never half."""

    type: ClassVar[str] = "file.write"
    examples: ClassVar[tuple[str, ...]] = (
        "id: report\ntype: file.write\npath: reports/today.txt\ncontent: done\noverwrite: true",
        "id: keep\ntype: file.write\npath: 'photos/{{ execution.id }}.jpg'\nuri: '{{ trigger.body.photo.uri }}'",
    )

    path: str = Field(description="The file, below `files.roots`; folders are made where they are missing.")
    content: str | None = Field(None, description="What it shall hold.")
    uri: str | None = Field(
        None, description="In place of `content`: a file of the file store, `trigger.body.photo.uri`."
    )
    encoding: Literal["utf-8", "base64"] = Field("utf-8", description="What `content` is written in.")
    overwrite: bool = Field(False, description="Whether a file that is there is replaced.")
    append: bool = Field(False, description="Whether `content` is added to a file that is there.")

    class Output(BaseModel):
        path: str = Field(description="The file.")
        size: int = Field(description="Its size in bytes.")

    @model_validator(mode="after")
    def _one(self) -> Write:
        if (self.content is None) == (self.uri is None):
            raise ValueError("give either content or uri")
        return self

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        path = ctx.place(self.path, write=True)
        source = await _stored(ctx, self.uri) if self.uri is not None else None
        return await asyncio.to_thread(self._write, path, source, ctx.task_run_id)

    def _write(self, path: Path, source: Path | None, unique: str) -> dict[str, Any]:
        with open(source, "rb") if source is not None else io.BytesIO(self._bytes()) as content:
            return self._write_from(content, path, unique)

    def _write_from(self, content: BinaryIO, path: Path, unique: str) -> dict[str, Any]:
        if self.append:
            with opened(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, make=True) as handle:
                _copy(content, handle)
                os.fsync(handle)
                return {"path": str(path), "size": os.fstat(handle).st_size}
        part = path.with_name(f".{path.name[:100]}.{unique[:8]}.part")
        with folder_of(path, make=True) as folder:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(part.name, dir_fd=folder)
            with opened(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as handle:
                size = _copy(content, handle)
                os.fsync(handle)
            try:
                self._put_in_place(part.name, path, folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part.name, dir_fd=folder)
            os.fsync(folder)
        return {"path": str(path), "size": size}

    def _put_in_place(self, part: str, path: Path, folder: int) -> None:
        if self.overwrite:
            os.rename(part, path.name, src_dir_fd=folder, dst_dir_fd=folder)
            return
        try:
            # a link never takes the place of what has the name already, as a rename would
            os.link(part, path.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise InvalidInput(
                f"{self.path} exists already", hint="say overwrite: true to replace it"
            ) from None

    def _bytes(self) -> bytes:
        content = self.content or ""
        if self.encoding == "utf-8":
            return content.encode()
        try:
            return base64.b64decode(content, validate=True)
        except ValueError as error:
            raise Fail(f"content is not base64: {error}") from error


class Move(Task):
    """Move or rename a file."""

    type: ClassVar[str] = "file.move"
    examples: ClassVar[tuple[str, ...]] = (
        "id: archive\ntype: file.move\nsource: out/a.csv\ntarget: archive/a.csv",
    )

    source: str = Field(description="The file, below `files.roots`.")
    target: str = Field(description="Its new path; folders are made where they are missing.")
    overwrite: bool = Field(False, description="Whether a file that is there is replaced.")

    class Output(BaseModel):
        path: str = Field(description="The file's new path.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        source, target = ctx.place(self.source, write=True), ctx.place(self.target, write=True)
        await asyncio.to_thread(self._move, source, target)
        return {"path": str(target)}

    def _move(self, source: Path, target: Path) -> None:
        with opened(source, os.O_RDONLY), Folders() as folders:
            if source == target:
                return
            try:
                if self.overwrite:
                    move_over(folders, source, target)
                else:
                    move_into(folders, source, target.parent, Names(target.name))
            except FileExistsError:
                raise InvalidInput(
                    f"{self.target} exists already", hint="say overwrite: true to replace it"
                ) from None
            except OSError as error:
                raise Fail(f"cannot move {self.source} to {self.target}: {error.strerror}") from error


class Delete(Task):
    """Delete a file, or a folder with all that is in it."""

    type: ClassVar[str] = "file.delete"
    examples: ClassVar[tuple[str, ...]] = (
        "id: tidy\ntype: file.delete\npath: tmp/report.txt\nmissing: ignore",
    )

    path: str = Field(description="The file or folder, below `files.roots`.")
    recursive: bool = Field(False, description="Whether a folder goes with all that is in it.")
    missing: Literal["fail", "ignore"] = Field("fail", description="What to do where it is not there.")

    class Output(BaseModel):
        deleted: bool = Field(description="Whether anything was there.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        path = ctx.place(self.path, write=True, below=True)
        return {"deleted": await asyncio.to_thread(self._delete, path)}

    def _delete(self, path: Path) -> bool:
        try:
            with folder_of(path) as folder:
                mode = os.stat(path.name, dir_fd=folder, follow_symlinks=False).st_mode
                if not stat.S_ISDIR(mode):
                    os.unlink(path.name, dir_fd=folder)
                elif self.recursive:
                    if _holds_git(path.name, folder):
                        raise Fail(f"{self.path} holds a Git repository, which flows do not delete")
                    remove_tree(path.name, dir_fd=folder)
                else:
                    os.rmdir(path.name, dir_fd=folder)
        except (FileNotFoundError, NotFound):
            if self.missing == "fail":
                raise Fail(f"{self.path} does not exist") from None
            return False
        except OSError as error:
            raise Fail(f"cannot delete {self.path}: {error.strerror}") from error
        return True


class ListFiles(Task):
    """List the files of a folder."""

    type: ClassVar[str] = "file.list"
    examples: ClassVar[tuple[str, ...]] = ('id: reports\ntype: file.list\npath: reports\npattern: "*.csv"',)

    path: str = Field(description="The folder, below `files.roots`.")
    pattern: str = Field(
        "*", description="Which names count; with a `/` it is about the path below the folder."
    )
    recursive: bool = Field(False, description="Whether folders below count too.")
    limit: int = Field(1000, ge=1, le=_MOST_ENTRIES, description="How many at most.")

    class Output(BaseModel):
        files: list[dict[str, Any]] = Field(description="Each with `path name size modifiedAt`, by path.")
        count: int = Field(description="How many they are.")
        more: bool = Field(description="Whether there are more than the limit.")

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        return await asyncio.to_thread(self._list, ctx.place(self.path), ctx.place)

    def _list(self, root: Path, place: Callable[[str], Path]) -> dict[str, Any]:
        if not root.is_dir():
            raise Fail(f"{self.path} is no folder")
        found: list[dict[str, Any]] = []
        for path in sorted(map(Path, Pattern(root, self.pattern, self.recursive).scan().files)):
            with contextlib.suppress(OSError, Denied):
                about = place(str(path)).lstat()
                found.append(
                    {
                        "path": str(path),
                        "name": path.name,
                        "size": about.st_size,
                        "modifiedAt": _moment(about.st_mtime),
                    }
                )
            if len(found) > self.limit:
                break
        return {
            "files": found[: self.limit],
            "count": min(len(found), self.limit),
            "more": len(found) > self.limit,
        }


def _holds_git(name: str, folder: int) -> bool:
    return any(found == ".git" for found in tree_names(name, dir_fd=folder))


async def _stored(ctx: TaskContext, uri: str) -> Path:
    """Where a file of the file store lies. Raises ``NotFound``."""
    return (await ctx.files.path(uri)).resolve()  # the hub's own folder may lie behind a link


def _copy(content: BinaryIO, handle: int) -> int:
    """Write the rest of a file; answers how much it was."""
    size = 0
    while block := content.read(_BLOCK):
        size += len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(handle, view) :]
    return size


def _moment(seconds: float) -> str:
    return iso(datetime.fromtimestamp(seconds, UTC))
