"""What the operator reads on stderr: structlog, readable on a terminal and in a file."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import suppress
from io import TextIOBase, UnsupportedOperation
from typing import Any

import structlog


def configure_logs(level: str = "INFO") -> None:
    """Log to stderr from ``level`` on; colours only on a terminal."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    renderer: Any = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=_Stderr(), level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")


class _Stderr(TextIOBase):
    """Standard error that never raises: a full disk or a reader that has gone costs lines, not executions.

    Nothing is buffered either: what could not be written would be tried again at the exit, and be its code.
    """

    def write(self, text: str) -> int:
        try:
            handle = sys.stderr.fileno()
        except UnsupportedOperation:  # not the process's own, but somebody's who wants to read it
            return sys.stderr.write(text)
        left = text.encode("utf-8", "backslashreplace")
        with suppress(OSError):
            while left:
                left = left[os.write(handle, left) :]
        return len(text)

    def isatty(self) -> bool:
        return sys.stderr.isatty()
