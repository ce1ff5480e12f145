"""``hub plugins check``: whether a plugin is as its users and the hub will want it, before it is published.

The plugin is loaded in a process of its own, whatever it does there; what its page would lack, what blocks the hub's
loop and which contracts it keeps is found there too. Called by the command line; pytest is asked for the
contracts where the project's tests hold them.
"""

from hub.testing.check.findings import Finding, Level
from hub.testing.check.running import check_installed, check_project

__all__ = ["Finding", "Level", "check_installed", "check_project"]
