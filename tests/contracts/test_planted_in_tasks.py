"""The task contract notices bugs: each planted here makes one of its tests fail, which passes without it."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from pydantic import BaseModel, Field, field_validator

from hub.errors import InvalidFlow
from hub.plugin import Task, TaskContext
from hub.testing import Kit, TaskContract

FIELDS = {"name": "Ada"}
SLOW = {"name": "Ada", "seconds": 60}


class Greet(Task):
    """Greet somebody, after a while."""

    type: ClassVar[str] = "planted.greet"
    examples: ClassVar[tuple[str, ...]] = ("id: greet\ntype: planted.greet\nname: Ada",)

    name: str = Field(description="Whom.")
    seconds: float = Field(0.0, description="How long to think before.")

    class Output(BaseModel):
        text: str = Field(description="The greeting.")
        letters: int = Field(0, description="How many letters it has.")

    async def run(self, ctx: TaskContext) -> Any:
        await asyncio.sleep(self.seconds)
        text = f"Hello, {self.name}!"
        return self.Output(text=text, letters=len(text))


class TestGreet(TaskContract):
    task = Greet

    @pytest.fixture
    def fields(self) -> dict[str, Any]:
        return FIELDS

    @pytest.fixture
    def slow_fields(self) -> dict[str, Any]:
        return SLOW


LEFT: list[Callable[[], Any]] = []


def end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()


@pytest.fixture(autouse=True)
def _tidy() -> Any:
    yield
    while LEFT:
        LEFT.pop()()


class GivesWhatCannotBeStored(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        return object()


class GivesAnotherType(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        return {"text": "Hello", "letters": "many"}


class GivesUnnamedThings(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        return {"text": "Hello", "mood": "fine"}


class ForgetsAnOutput(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        return {"letters": 1}


class Fails(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        raise ValueError("no greeting today")


class BlocksTheLoop(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        time.sleep(0.8)
        return {"text": "Hello"}


class LeavesATask(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        LEFT.append(asyncio.create_task(asyncio.sleep(60)).cancel)
        return {"text": "Hello"}


class LeavesAThread(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        over = threading.Event()
        LEFT.append(over.set)
        threading.Thread(target=over.wait, args=(60,)).start()
        return {"text": "Hello"}


class LeavesAProcess(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        process = subprocess.Popen(["sleep", "60"])
        LEFT.append(lambda: end(process))
        return {"text": "Hello"}


class LeavesAFileOpen(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        LEFT.append(open("/etc/hostname").close)
        return {"text": "Hello"}


class LeavesAProcessWhenItIsKilled(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        if self.seconds:
            process = await asyncio.create_subprocess_exec("sleep", "60")
            LEFT.append(process.kill)
            await process.wait()
        return {"text": "Hello"}


class TakesNoNoticeOfItsEnd(Greet):
    """Greet somebody."""

    async def run(self, ctx: TaskContext) -> Any:
        until = asyncio.get_running_loop().time() + min(self.seconds, 11)
        while asyncio.get_running_loop().time() < until:
            try:
                await asyncio.sleep(until - asyncio.get_running_loop().time())
            except asyncio.CancelledError:
                continue
        return {"text": "Hello"}


class HasNoSummary(Greet):
    type: ClassVar[str] = "planted.greet"


HasNoSummary.__doc__ = None


class HasAnUnexplainedField(Greet):
    """Greet somebody."""

    mood: str = "fine"


class HasABadExample(Greet):
    """Greet somebody."""

    examples: ClassVar[tuple[str, ...]] = ("id: greet\ntype: planted.greet\nnaem: Ada",)


class HasNoExample(Greet):
    """Greet somebody."""

    examples: ClassVar[tuple[str, ...]] = ()


class TakesNoText(Greet):
    """Greet somebody."""

    letters: list[str] = Field(default_factory=list, description="Letters.")

    @field_validator("name", mode="before")
    @classmethod
    def _check(cls, value: Any) -> Any:
        # sees what a flow says before it is rendered
        if value not in ("Ada", "Grace"):
            raise ValueError("unknown person")
        return value


PAGE, EXAMPLES = "test_its_page_has_no_hole", "test_its_examples_can_be_saved"
CALL = "test_a_call_succeeds_and_gives_what_it_says"
LOOP = "test_it_does_not_keep_the_hub_from_everything_else"
KILL = "test_it_ends_when_it_is_killed_and_leaves_nothing_behind"
PLANTED: list[tuple[type[Task], str]] = [
    (GivesWhatCannotBeStored, CALL),
    (GivesAnotherType, CALL),
    (GivesUnnamedThings, CALL),
    (ForgetsAnOutput, CALL),
    (Fails, CALL),
    (LeavesATask, CALL),
    (LeavesAThread, CALL),
    (LeavesAProcess, CALL),
    (LeavesAFileOpen, CALL),
    (BlocksTheLoop, LOOP),
    (LeavesAProcessWhenItIsKilled, KILL),
    (TakesNoNoticeOfItsEnd, KILL),
    (HasNoSummary, PAGE),
    (HasAnUnexplainedField, PAGE),
    (HasNoExample, PAGE),
    (HasABadExample, EXAMPLES),
]
ARGUMENTS: dict[str, dict[str, Any]] = {
    CALL: {"fields": FIELDS},
    LOOP: {"fields": FIELDS},
    KILL: {"slow_fields": SLOW},
}


async def noticing(test: Callable[..., Any], arguments: dict[str, Any]) -> None:
    found = test(**arguments)
    if found is not None:
        await found


@pytest.mark.parametrize(("planted", "test"), PLANTED, ids=lambda one: getattr(one, "__name__", None))
async def test_a_planted_bug_is_noticed(planted: type[Task], test: str, hub_kit: Kit) -> None:
    suite = TaskContract()
    suite.task = planted
    arguments = {} if test == PAGE else {"hub_kit": hub_kit, **ARGUMENTS.get(test, {})}
    with pytest.raises((AssertionError, InvalidFlow)):
        await noticing(getattr(suite, test), arguments)
