"""What the plugins brought: loaded once, looked up by name."""

from hub.registry.loader import load_plugins
from hub.registry.registry import PluginReport, Registry

__all__ = ["PluginReport", "Registry", "load_plugins"]
