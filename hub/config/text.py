"""Problems as a person reads them, with a caret under the place; other forms are in ``hub.config.reports``."""

from __future__ import annotations

import re
from functools import lru_cache

from hub.errors import Problem

_WIDEST = 160


def render_problem(problem: Problem, source: str | None) -> str:
    """A problem with its line and a caret under the place."""
    where = f"{problem.file or '<text>'}:{problem.position.line}:{problem.position.column}"
    parts = [f"{where}  {problem.severity}: {problem.message}"]
    lines = _lines(source or "")
    if 0 < problem.position.line <= len(lines):
        line = lines[problem.position.line - 1].replace("\t", " ")
        start = problem.position.column - 1
        shift = max(start - _WIDEST // 2, 0) if len(line) > _WIDEST else 0
        shown = line[shift : shift + _WIDEST]
        number = str(problem.position.line)
        width = max(min(problem.length, len(shown) - (start - shift)), 1)
        parts.append(f"  {number} | {shown}")
        parts.append(f"  {' ' * len(number)} | {' ' * (start - shift)}{'^' * width}")
    if problem.hint:
        parts.append(f"    hint: {problem.hint}")
    return "\n".join(parts)


@lru_cache(maxsize=2)
def _lines(source: str) -> list[str]:
    """The lines as editors count them, cut once for all problems of a file."""
    return re.split(r"\r\n|\n|\r", source) if source else []
