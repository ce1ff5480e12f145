"""Calls that keep the whole hub waiting, found in the text of a plugin's coroutines."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

_BLOCKING = (
    "http.client.HTTPConnection",
    "http.client.HTTPSConnection",
    "httpx.delete",
    "httpx.get",
    "httpx.patch",
    "httpx.post",
    "httpx.put",
    "httpx.request",
    "os.system",
    "os.wait",
    "os.waitpid",
    "psycopg2.connect",
    "pymysql.connect",
    "requests.",
    "smtplib.SMTP",
    "smtplib.SMTP_SSL",
    "socket.create_connection",
    "sqlite3.connect",
    "subprocess.call",
    "subprocess.check_call",
    "subprocess.check_output",
    "subprocess.run",
    "time.sleep",
    "urllib.request.urlopen",
)
"""What waits for something outside; one that ends in a dot stands for everything below it."""


def blocking_calls(folder: Path) -> Iterator[str]:
    """Each such call in a coroutine of a package: ``tasks.py:14: time.sleep(…) in "run"``."""
    for path in sorted(folder.rglob("*.py")) if folder.is_dir() else [folder]:
        try:
            tree = ast.parse(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, SyntaxError):
            continue  # loading it says so
        names = _imported(tree)
        for function in ast.walk(tree):
            if isinstance(function, ast.AsyncFunctionDef):
                for line, called in _calls(function, names):
                    where = path.relative_to(folder.parent) if folder in path.parents else path.name
                    yield f'{where}:{line}: {called}(…) in "async def {function.name}"'


def _imported(tree: ast.Module) -> dict[str, str]:
    """What each name that a module imports stands for."""
    found: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                name = one.asname or one.name.partition(".")[0]
                found[name] = one.name if one.asname else name
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for one in node.names:
                found[one.asname or one.name] = f"{node.module}.{one.name}"
    return found


def _calls(function: ast.AsyncFunctionDef, names: dict[str, str]) -> Iterator[tuple[int, str]]:
    waiting: list[ast.AST] = list(function.body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue  # handed to a thread, as a rule; a coroutine inside is looked at by itself
        if isinstance(node, ast.Call):
            called = _spelled(node.func, names)
            if any(called == one or (one.endswith(".") and called.startswith(one)) for one in _BLOCKING):
                yield node.lineno, called
        waiting += ast.iter_child_nodes(node)


def _spelled(node: ast.expr, names: dict[str, str]) -> str:
    """The dotted name that an expression calls; empty where it is none."""
    if isinstance(node, ast.Name):
        return names.get(node.id, "")
    if isinstance(node, ast.Attribute):
        owner = _spelled(node.value, names)
        return f"{owner}.{node.attr}" if owner else ""
    return ""
