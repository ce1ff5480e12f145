"""Start the hub with a clock that a test sets: ``python set_clock.py FILE serve …``.

``FILE`` holds a moment, ISO 8601 with its offset. The clock shows it as of when the file was written, and goes
on from there; written again, the clock jumps.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

START = (sys.executable, __file__)


def set_clock(file: Path, moment: str) -> None:
    """Put the clock to a moment; the hub sees the old one or the new one, never half."""
    new = file.with_suffix(".new")
    new.write_text(moment)
    os.replace(new, file)


def _follow(file: Path) -> None:
    from hub.clock import SystemClock

    def now(self: SystemClock) -> datetime:
        since = timedelta(seconds=time.time() - file.stat().st_mtime)
        return datetime.fromisoformat(file.read_text()).astimezone(UTC) + since

    SystemClock.now = now  # type: ignore[method-assign]


if __name__ == "__main__":
    _follow(Path(sys.argv.pop(1)))
    from hub.cli import main

    main()
