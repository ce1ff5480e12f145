"""The Python environment that the hub runs in: what is installed there, and by which tool more is."""

from hub.environment.changes import Change, Changes, own_distributions
from hub.environment.tools import Tool, find_tool

__all__ = ["Change", "Changes", "Tool", "find_tool", "own_distributions"]
