"""The command ``hub``: quick to start, each command loaded when it is called."""

from __future__ import annotations

import os
import sys

from hub import __version__


def main() -> None:
    """Run the command and exit."""
    if sys.argv[1:] == ["--version"]:
        # asked by scripts again and again: it is not worth loading the command line for
        from hub.cli.streams import say

        sys.exit(say(f"{_name()} {__version__}"))
    from hub.cli.root import main as run

    run()


def _name() -> str:
    called = os.path.basename(sys.argv[0])
    return called if called == "asynchub" else "hub"


__all__ = ["main"]
