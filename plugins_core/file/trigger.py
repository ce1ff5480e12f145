"""The file trigger: every whole file is one event, and lies where the event says while its executions run.

What it may be told is here, and what it does before an execution goes on; finding and taking files is
``watch``'s, putting them away ``custody``'s.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from hub.plugin import Duration, Emit, Folders, InvalidInput, Model, NotFound, Trigger, TriggerContext
from plugins_core.file.claims import After, ClaimFolder, claim, fetch_back
from plugins_core.file.custody import Custody, custody_of
from plugins_core.file.hints import hints_of
from plugins_core.file.marks import Mark
from plugins_core.file.patterns import Pattern
from plugins_core.file.taking import Plan
from plugins_core.file.watch import Watch

_CUSTODY = "file.custody"
_HINTS = "file.hints"


class Move(Model):
    """Where a file goes after its executions."""

    move: str = Field(description="The folder for files whose executions succeeded.")
    failed: str | None = Field(None, description="The folder for the others; the same one by default.")


class FileArrival(Trigger):
    """Start the flow once for every file that arrives in a folder."""

    type: ClassVar[str] = "file.arrival"
    event_type: ClassVar[str] = "hub.file.arrived"
    examples: ClassVar[tuple[str, ...]] = (
        'id: drop\ntype: file.arrival\npath: inbox\npattern: "*.csv"\nafter: {move: done, failed: failed}',
        "id: look\ntype: file.arrival\npath: reports\nrecursive: true\nafter: keep",
    )

    path: str = Field(description="The folder to watch, below `files.roots`; made where it is missing.")
    pattern: str = Field(
        "*", description="Which names count, as `*.csv`; with a `/` it is about the path below the folder."
    )
    recursive: bool = Field(False, description="Whether folders below count too.")
    settle: Duration = Field(
        timedelta(seconds=1),
        description="How long a file must not have changed; one that is renamed into place counts at once.",
    )
    rescan: Duration = Field(
        timedelta(seconds=10), description="How often the folder is looked at, whatever was heard of it."
    )
    after: Literal["keep", "delete"] | Move = Field(
        "keep", description="What becomes of a file when its executions have ended: keep, delete or move."
    )

    class Data(BaseModel):
        model_config = ConfigDict(extra="forbid")

        path: str = Field(description="Where the file lies while the executions run.")
        name: str = Field(description="Its name.")
        source: str = Field(description="Where it arrived.")
        size: int = Field(description="Its size in bytes.")
        modifiedAt: str = Field(description="When it was last changed, ISO 8601.")
        sha256: str = Field(description="The digest of what it holds.")
        mark: str = Field(description="What tells it from another file of the same name.")

    @field_validator("settle")
    @classmethod
    def _settles(cls, value: timedelta) -> timedelta:
        if not timedelta(0) <= value <= timedelta(days=1):
            raise ValueError("expected a length of time from PT0S to P1D")
        return value

    @field_validator("rescan")
    @classmethod
    def _rests(cls, value: timedelta) -> timedelta:
        if not timedelta(seconds=0.1) <= value <= timedelta(days=1):
            raise ValueError("expected a length of time from PT0.1S to P1D")
        return value

    @field_validator("pattern")
    @classmethod
    def _can_match(cls, value: str) -> str:
        if not value or value.startswith("/"):
            raise ValueError('expected a pattern for names, as "*.csv", or for paths below the folder')
        return value

    @property
    def _keeps(self) -> bool:
        return self.after == "keep"

    def _after(self, ctx: TriggerContext) -> After | None:
        """What becomes of files, with the folders found; None when they stay. Raises ``Denied``."""
        if not isinstance(self.after, Move):
            return None if self._keeps else After()
        done = ctx.place(self.after.move, write=True)
        return After(done, ctx.place(self.after.failed, write=True) if self.after.failed else None)

    async def run(self, ctx: TriggerContext, emit: Emit) -> None:
        root = ctx.place(self.path, write=not self._keeps)
        await asyncio.to_thread(root.mkdir, parents=True, exist_ok=True)
        after = self._after(ctx)
        put_away = [folder for folder in (after.done, after.failed) if folder] if after else []
        if root in put_away:
            raise InvalidInput(f"after moves the files of {root} into the same folder")
        pattern = Pattern(
            root, self.pattern, self.recursive, tuple(one for one in put_away if one.is_relative_to(root))
        )
        plan = Plan(pattern, ClaimFolder(root, ctx.key), after, self.settle, self.rescan)
        custody = await ctx.shared(_CUSTODY, custody_of(ctx))
        hints = await ctx.shared(_HINTS, hints_of(ctx))
        await Watch(plan, ctx, emit, custody, hints).run()

    async def prepare(self, ctx: TriggerContext, data: Mapping[str, Any], event_id: str) -> None:
        """See that the file lies where ``trigger.path`` says, also after a crash and for a replay."""
        path = Path(str(data.get("path", "")))
        mark = Mark.read(str(data.get("mark", "")))
        if mark is None:
            _see_by_hand(ctx, path)
        elif self._keeps:
            await asyncio.to_thread(_see_kept, ctx.place(str(path)), mark)
        else:
            await self._see_claimed(ctx, path, mark, data, event_id)

    async def _see_claimed(
        self, ctx: TriggerContext, path: Path, mark: Mark, data: Mapping[str, Any], event_id: str
    ) -> None:
        custody: Custody = await ctx.shared(_CUSTODY, custody_of(ctx))
        if await custody.ask_for(str(path), event_id):
            return
        source, sha256 = Path(str(data.get("source", ""))), str(data.get("sha256", ""))
        at = ClaimFolder(ctx.place(self.path, write=True), ctx.key)
        after = self._after(ctx)
        if after is None or not at.holds(path, source, mark.key):
            _see_by_hand(ctx, path)
            return
        with custody.moving([path]):
            await asyncio.to_thread(_make_sure, at, source, path, mark, after, sha256)
            known = await ctx.known([mark.key])
            if mark.key in known:
                custody.hold(known[mark.key], path, after, is_sure=True, asked_by=event_id)


def _make_sure(at: ClaimFolder, source: Path, path: Path, mark: Mark, after: After, sha256: str) -> None:
    with Folders() as folders:
        try:
            if not claim(folders, at, source, path, mark):
                fetch_back(folders, at, path, after, sha256)
        except OSError as error:
            raise InvalidInput(f"{path}: {error.strerror or error}") from error


def _see_kept(path: Path, mark: Mark) -> None:
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        raise NotFound(f"{path} is not there any more") from None
    if not stat.S_ISREG(found.st_mode) or not mark.is_content_of(found):
        raise NotFound(f"{path} was changed since it arrived")


def _see_by_hand(ctx: TriggerContext, path: Path) -> None:
    """Data that somebody made up, or that are of another folder: nothing is moved on their word."""
    if not ctx.place(str(path)).is_file():
        raise NotFound(f"{path} is not there")
