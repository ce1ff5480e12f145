"""The quickstart, typed line by line: the wheel, an empty environment, what comes back beside what is shown."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.installed import build_wheel, environment_to_install_into
from tests.support.ports import free_port

PAGE = Path(__file__).parent.parent.parent / "docs" / "quickstart.md"
_LEFT_OUT = "…"
_BLOCK = re.compile(r"(?:Write `(?P<file>[^`]+)`:\n\n)?```(?P<kind>console|yaml)\n(?P<text>.*?)```", re.S)
# what differs from one run to the next, and what is put in its place on both sides
_DIFFERS = (
    (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "ID"),
    (r"\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)", "MOMENT"),
    (r"\b\d\d:\d\d:\d\d\.\d{3}\b", "TIME"),
    (r"\bin \d+(?:\.\d+)? (?:ms|s)\b", "in A WHILE"),
    (r"\b\d+\.\d+\.\d+\b(?!\.)", "VERSION"),
    (r"\b\d+ plugins\b", "PLUGINS"),
    (r"/\S*?(?=/(?:shop|production)/)", "FOLDER"),
)


@dataclass(frozen=True)
class Line:
    """A line to type, and what the page says comes back."""

    command: str
    shown: tuple[str, ...]


@dataclass(frozen=True)
class File:
    """A file to write."""

    path: str
    text: str


def steps(page: str) -> Iterator[Line | File]:
    """What the page tells to do, in order."""
    for block in _BLOCK.finditer(page):
        if block["kind"] == "yaml":
            assert block["file"], "the page has YAML and does not say where to write it"
            yield File(block["file"], block["text"])
            continue
        first, *typed = re.split(r"^\$ ", block["text"], flags=re.M)
        assert first == "", "the block begins with something nobody typed"
        for one in typed:
            command, *shown = one.splitlines()
            yield Line(command, tuple(shown))


class Follower:
    """Somebody who does what the page says, in a folder of their own, with other ports than the page's."""

    def __init__(self, folder: Path, commands: Path, dist: Path) -> None:
        self.folder = folder / "home"
        self.folder.mkdir()
        self._logs_in = folder
        self._ports = {"8484": str(free_port()), "8485": str(free_port())}
        self._served: list[subprocess.Popen[str]] = []
        self._logs: list[Path] = []
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HUB_", "PIP_"))},
            "PATH": f"{commands}{os.pathsep}/usr/bin:/bin",
            "HUB_PORT": self._ports["8484"],
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(dist),
            "HOME": str(self.folder),
            "COLUMNS": "80",
            **{f"GIT_{who}_{what}": "ada@example.test" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")},
        }  # fmt: skip

    def type(self, line: Line) -> None:
        words = shlex.split(line.command)
        if words[:2] == ["hub", "serve"]:
            came = self._serve(self._here(line.command))
        elif words[:3] == ["hub", "events", "tail"]:
            came = self._follow(line.command, len(line.shown))
        else:
            came = self._run(self._here(line.command))
        for port, other in self._ports.items():
            came = came.replace(other, port)
        assert _fits(list(line.shown), came.splitlines()), f"$ {line.command}\n{came}"

    def _here(self, command: str) -> str:
        for port, other in self._ports.items():
            command = command.replace(port, other)
        return command

    def _run(self, command: str) -> str:
        # the folder that a shell is left in is that of its next line
        where = self._logs_in / "where"
        done = subprocess.run(
            ["sh", "-c", f'{command}\nstatus=$?; pwd > "$WHERE"; exit $status'],
            cwd=self.folder,
            env={**self._env, "WHERE": str(where)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=100,
        )
        self.folder = Path(where.read_text().strip())
        return done.stdout

    def _follow(self, command: str, count: int) -> str:
        """So many lines of a command that goes on until Ctrl-C."""
        with subprocess.Popen(
            shlex.split(command), cwd=self.folder, env=self._env, stdout=subprocess.PIPE, text=True
        ) as following:
            assert following.stdout is not None
            came = [following.stdout.readline() for _ in range(count)]
            following.send_signal(signal.SIGINT)
            return "".join([*came, *following.stdout])

    def _serve(self, command: str) -> str:
        log = self._logs_in / f"log-{len(self._logs)}"
        self._logs.append(log)
        with log.open("w") as stderr:
            serving = subprocess.Popen(
                ["sh", "-c", f"exec {command}"],
                cwd=self.folder,
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )
        self._served.append(serving)
        assert serving.stdout is not None
        ready = serving.stdout.readline()
        assert " ready at " in ready, log.read_text()
        return ready

    def write(self, file: File) -> None:
        """Write a file, and see the first hub say that it has read it."""
        with subprocess.Popen(
            ["tail", "-n", "0", "-F", str(self._logs[0])], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        ) as tail:  # fmt: skip
            try:
                assert tail.stdout is not None
                (self.folder / file.path).write_text(file.text)
                assert next(line for line in tail.stdout if "flow loaded" in line)
            finally:
                tail.kill()

    def end(self) -> list[int]:
        """Ctrl-C in each terminal; answers the exit codes."""
        for serving in self._served:
            serving.send_signal(signal.SIGINT)
        codes = [serving.wait(60) for serving in self._served]
        for serving in self._served:
            assert serving.stdout is not None
            serving.stdout.close()
        return codes


def _fits(shown: list[str], came: list[str]) -> bool:
    """Whether what came is what the page shows; ``…`` stands for any lines."""
    pattern = "".join(
        r"(?:[^\n]*\n)*?" if line == _LEFT_OUT else re.escape(_same(line)) + "\n" for line in shown
    )
    return re.fullmatch(pattern, "".join(_same(line) + "\n" for line in came)) is not None


def _same(line: str) -> str:
    for differs, name in _DIFFERS:
        line = re.sub(differs, name, line)
    return line.rstrip()


def test_every_line_of_the_page_does_what_the_page_shows(tmp_path: Path) -> None:
    wheel = build_wheel(tmp_path / "dist")
    commands = environment_to_install_into(tmp_path / "environment")
    assert not (commands / "hub").exists()
    reader = Follower(tmp_path, commands, wheel.parent)
    try:
        for step in steps(PAGE.read_text()):
            if isinstance(step, File):
                reader.write(step)
            else:
                reader.type(step)
    finally:
        codes = reader.end()
    assert codes == [0, 0]


def test_what_the_page_shows_is_compared() -> None:
    assert _fits(["a", _LEFT_OUT, "c in 8 ms"], ["a", "b", "b", "c in 1.3 s"])
    assert _fits([_LEFT_OUT], [])
    assert not _fits(["a"], ["a", "b"])
    assert not _fits(["a", "b"], ["a"])
    assert not _fits(["Hello, Ada!"], ["Hello, Eve!"])
