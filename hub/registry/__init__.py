"""What the plugins brought: loaded once, looked up by name."""

from hub.registry.loader import load_plugins
from hub.registry.making import make_file_store, make_listeners, make_secret_sources, run_cleaners
from hub.registry.registry import PluginReport, Registry

__all__ = [
    "PluginReport",
    "Registry",
    "load_plugins",
    "make_file_store",
    "make_listeners",
    "make_secret_sources",
    "run_cleaners",
]
