"""Check flow files without a hub: every problem of every file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hub.config.flows import load_flow
from hub.config.loops import Chains, waiting
from hub.errors import InvalidFlow, NotFound, Position, Problem
from hub.expressions import FunctionTable
from hub.model.ids import FlowKey
from hub.registry import Registry

SUFFIX = ".hub.yaml"
STDIN = Path("-")
"""Stands for what is piped in."""


@dataclass
class LintReport:
    """What was found."""

    files: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    sources: dict[str, str] = field(default_factory=dict)
    owners: dict[FlowKey, str] = field(default_factory=dict)
    """The file that declares each flow, of those that can be saved."""

    @property
    def errors(self) -> int:
        return sum(problem.severity == "error" for problem in self.problems)


def flow_files(paths: Sequence[Path]) -> list[Path]:
    """The files that are named, and every ``*.hub.yaml`` below the folders. Raises ``NotFound``."""
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            # a link to nowhere is somebody's mistake: reading it says so
            below = sorted(file for file in path.rglob(f"*{SUFFIX}") if file.is_file() or is_dangling(file))
            if not below:
                raise NotFound(
                    f"there is no *{SUFFIX} file below {path}",
                    hint=f"flow files end in {SUFFIX}; hub init DIR writes a first one",
                )
            found += below
        elif path == STDIN or path.is_file():
            found.append(path)
        else:
            raise NotFound(f"{path} does not exist")
    return list(dict.fromkeys(found))


def is_dangling(path: Path) -> bool:
    """Whether a path is a link to what is not there."""
    return path.is_symlink() and not path.exists()


def lint_files(files: Iterable[Path], registry: Registry, functions: FunctionTable) -> LintReport:
    """Every problem of these files; two files that declare one flow are a problem of the second.

    So is a chain of flows that start each other, on and on, of the one that closes it.
    """
    report = LintReport()
    chains = Chains()
    for path in files:
        file = str(path) if path != STDIN else "<stdin>"
        report.files.append(file)
        try:
            # as bytes: line ends are the file's own, as the hub sees them
            source = (sys.stdin.buffer.read() if path == STDIN else path.read_bytes()).decode("utf-8")
        except UnicodeDecodeError as error:
            report.problems.append(Problem(f"not UTF-8: {error.reason}", Position(1, 1), file=file))
            continue
        except OSError as error:
            report.problems.append(Problem(f"cannot be read: {error.strerror}", Position(1, 1), file=file))
            continue
        report.sources[file] = source
        try:
            loaded = load_flow(source, file=file, registry=registry, functions=functions)
        except InvalidFlow as error:
            report.problems += error.problems
            continue
        report.problems += loaded.warnings
        if not loaded.flow.disabled:
            flow = waiting(loaded.flow.key, loaded.flow.labels, loaded.flow.triggers, registry)
            problem = chains.problem(flow, loaded.trigger_positions, file)
            if problem is not None:
                report.problems.append(problem)
            chains.put(flow)
        first = report.owners.setdefault(loaded.flow.key, file)
        if first != file:
            report.problems.append(
                Problem(
                    f"the flow {loaded.flow.key} is declared in {first} too", loaded.id_position, file=file
                )
            )
    return report
