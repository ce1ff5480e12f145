"""The task ``http.download``."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import aiohttp
from pydantic import BaseModel, Field, field_validator

from hub.plugin import Duration, Failed, TaskContext
from plugins_core.http.sending import HttpTask, headers_of

_BLOCK = 1024 * 1024
_LONGEST_NAME = 200
_NO_NAME = "download"
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class Download(HttpTask):
    """Download a file to the file store."""

    type: ClassVar[str] = "http.download"
    examples: ClassVar[tuple[str, ...]] = (
        "id: fetch\ntype: http.download\nuri: https://example.test/orders.csv\n"
        "retry: {type: exponential, interval: PT1S, maxAttempts: 5}",
        "id: release\ntype: http.download\nuri: https://example.test/tool.tar.gz\n"
        "sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    )

    request_timeout: Duration = Field(
        timedelta(minutes=10),
        description="How long the download may take; `timeout` bounds the whole attempt.",
    )
    max_body_bytes: int = Field(1024 * 1024 * 1024, ge=1, description="The largest file that is taken.")
    sha256: str | None = Field(
        None, description="What the file's SHA-256 must be, in hexadecimal; without it any content is taken."
    )
    name: str | None = Field(
        None,
        min_length=1,
        description="The file's name; by default what the answer says, else the end of the address.",
    )

    class Output(BaseModel):
        uri: str = Field(description="Where the file store keeps it.")
        name: str = Field(description="The file's name.")
        size: int = Field(description="Its size in bytes.")
        sha256: str = Field(description="Its SHA-256 in hexadecimal.")
        contentType: str = Field(description="The media type the answer named.")
        status: int = Field(description="The status code.")
        headers: dict[str, str] = Field(description="The answer's headers, names in lower case.")

    @field_validator("sha256")
    @classmethod
    def _is_a_digest(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", value):
            raise ValueError(f'"{value[:80]}" is not a SHA-256: expected 64 hexadecimal digits')
        return value.lower() if value is not None else None

    async def run(self, ctx: TaskContext) -> dict[str, Any]:
        async with ctx.working_folder() as folder:
            with _new_file(folder) as file:
                async with self.answer(ctx, "GET") as answer:
                    about = {
                        "contentType": answer.content_type,
                        "status": answer.status,
                        "headers": headers_of(answer),
                    }
                    if not self.is_allowed(answer.status):
                        raise Failed(self.refusal(answer, "GET", await _beginning(answer)), outputs=about)
                    size, digest = await self._receive(answer, file)
                if self.sha256 not in (None, digest):
                    raise Failed(f"the file's SHA-256 is {digest}, expected {self.sha256}", outputs=about)
                file.seek(0)
                name = _plain(self.name) or _name_of(answer)
                uri = await ctx.files.put(name, file)
        return {"uri": uri, "name": name, "size": size, "sha256": digest, **about}

    async def _receive(self, answer: aiohttp.ClientResponse, file: BinaryIO) -> tuple[int, str]:
        """Write the answer to a file, block by block; answers its size and SHA-256."""
        if (answer.content_length or 0) > self.max_body_bytes:
            raise self.too_large()
        size, digest = 0, hashlib.sha256()

        def take(block: bytes) -> None:
            digest.update(block)
            file.write(block)

        async for block in _blocks(answer):
            size += len(block)
            if size > self.max_body_bytes:
                raise self.too_large()
            await asyncio.to_thread(take, block)
        await asyncio.to_thread(file.flush)
        return size, digest.hexdigest()


def _new_file(folder: Path) -> BinaryIO:
    return (folder / "download").open("w+b")


async def _blocks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The answer in blocks that are worth a thread each."""
    waiting = bytearray()
    async for chunk in answer.content.iter_any():
        waiting += chunk
        if len(waiting) >= _BLOCK:
            yield bytes(waiting)
            waiting.clear()
    if waiting:
        yield bytes(waiting)


async def _beginning(answer: aiohttp.ClientResponse) -> str:
    return (await answer.content.read(1024)).decode("utf-8", "replace")


def _name_of(answer: aiohttp.ClientResponse) -> str:
    """The name the answer gives the file, else the end of the address that answered."""
    disposition = answer.content_disposition
    return _plain(disposition.filename if disposition else None) or _plain(answer.url.name) or _NO_NAME


def _plain(name: str | None) -> str:
    """A name without folders and control characters."""
    last = re.split(r"[/\\]", name or "")[-1]
    return _CONTROL.sub("", last).strip(" .")[:_LONGEST_NAME]
