"""The command ``hub``: quick to start, each command loaded when it is called."""

from hub.cli.root import main

__all__ = ["main"]
