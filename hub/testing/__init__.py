"""The public test kit: a hub in one process, a virtual clock, contract suites for plugins."""

from hub.testing.harness import Harness, VirtualClock, harness

__all__ = ["Harness", "VirtualClock", "harness"]
