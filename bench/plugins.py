"""What plugins cost: a task of theirs, a start with a hundred of them, a reload, and ``hub --version``."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.rows import Options, Row
from bench.subjects import Hub, folder, hub, python

_INSTALLED = 100
_MODULE = '''from typing import ClassVar

from pydantic import BaseModel, Field

from hub.plugin import Task, TaskContext, hookimpl

HUB_API = 1


class Send(Task):
    """Send something."""

    type: ClassVar[str] = "many{number}.send"
    examples: ClassVar[tuple[str, ...]] = ("id: send\\ntype: many{number}.send\\nchannel: a\\ntext: b",)

    channel: str = Field(description="The channel.")
    text: str = Field(min_length=1, description="The text.")
    retries: int = Field(3, ge=0, description="How often.")

    class Output(BaseModel):
        message_id: str = Field(description="The new message.")

    async def run(self, ctx: TaskContext) -> Output:
        return self.Output(message_id=self.text)


@hookimpl
def register_tasks() -> list[type[Task]]:
    return [Send]
'''
_BARE = """from typing import ClassVar

from pydantic import BaseModel, Field


class Send(BaseModel):
    channel: str = Field(description="The channel.")
    text: str = Field(min_length=1, description="The text.")
    retries: int = Field(3, ge=0, description="How often.")

    class Output(BaseModel):
        message_id: str = Field(description="The new message.")
"""


def plugins(options: Options) -> list[Row]:
    """(p) what plugins cost: per task, at the start, at a reload, and for `hub --version`."""
    rows = [_layer(options)]
    with folder() as place, _installed(place):
        rows += [_start(options, place), *_reloads(options, place), _version(options)]
    return rows


def _layer(options: Options) -> Row:
    count = "5000" if options.quick else "50000"
    rounds = range(options.rounds)
    ours = statistics.median(float(python("bench.plugin_layer", count)) for _ in rounds)
    bare = statistics.median(float(python("bench.bare.component", count)) for _ in rounds)
    more = ours - bare
    aim = "<= 15 us more"
    return Row(
        "p", "a plugin's task, its class called directly", ours, bare, "us", ours / bare, aim, more <= 15
    )


@contextmanager
def _installed(place: Path) -> Iterator[None]:
    """A hundred plugins as an installer leaves them, on the path of every process that is started meanwhile."""
    site = place / "site"
    site.mkdir()
    for number in range(_INSTALLED):
        (site / f"asynchub_many{number}.py").write_text(_MODULE.replace("{number}", str(number)))
        (site / f"bare{number}.py").write_text(_BARE)
        about = site / f"asynchub_many{number}-1.0.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: asynchub-many{number}\nVersion: 1.0\n")
        (about / "entry_points.txt").write_text(f"[hub.plugins]\nmany{number} = asynchub_many{number}\n")
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(site), before]))
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


def _start(options: Options, place: Path) -> Row:
    """What a start takes longer with them than without."""
    with_them, without, bare = [], [], []
    for _ in range(options.rounds + 1):
        with _served(options, place) as running:
            with_them.append(running.ready_seconds)
        hidden = os.environ.pop("PYTHONPATH")
        with _served(options, place) as running:
            without.append(running.ready_seconds)
        os.environ["PYTHONPATH"] = hidden
        bare.append(_imports(_INSTALLED, place) - _imports(0, place))
    took = (statistics.median(with_them) - statistics.median(without)) * 1000
    limit = statistics.median(bare) * 1000
    what = f"start with {_INSTALLED} plugins, what is more"
    return Row("p", what, took, limit, "ms", took / limit, "", None)


def _imports(count: int, place: Path) -> float:
    """How long a process lives that imports so many modules."""
    return _took(lambda: python("bench.bare.modules", str(count), str(place / "site"), "bare"))


def _reloads(options: Options, place: Path) -> list[Row]:
    """How long callers wait for a new process, and how long it is until there is one."""
    waited, whole, bare = [], [], []
    with _served(options, place) as running:
        for number in range(1, options.rounds + 3):
            began = time.perf_counter()
            running.call("POST", "/api/v1/reload")
            while (found := running.call("GET", "/api/v1/reload"))["state"] != "done" or found[
                "number"
            ] < number:
                time.sleep(0.01)
            whole.append((time.perf_counter() - began) * 1000)
            waited.append(found["seconds"] * 1000)
            bare.append(float(python("bench.bare.takeover")))
    gap, limit = statistics.median(waited), statistics.median(bare)
    return [
        Row("p", "reload: how long callers wait", gap, limit, "ms", gap / limit, "< 1000 ms", gap < 1000),
        Row("p", f"reload with {_INSTALLED} plugins, all of it", statistics.median(whole), None, "ms"),
    ]


def _version(options: Options) -> Row:
    ours = [_took(lambda: _run(options.command, "--version")) * 1000 for _ in range(5 * options.rounds)]
    bare = [_took(lambda: _run(sys.executable, "-c", "pass")) * 1000 for _ in range(5 * options.rounds)]
    took, limit = statistics.median(ours), statistics.median(bare)
    what = f"hub --version with {_INSTALLED} plugins"
    return Row("p", what, took, limit, "ms", took / limit, "< 120 ms", took < 120)


@contextmanager
def _served(options: Options, place: Path) -> Iterator[Hub]:
    data = place / "data"
    data.mkdir(exist_ok=True)
    with hub(data, None, options.command) as running:
        yield running


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
