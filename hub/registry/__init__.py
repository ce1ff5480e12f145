"""What the plugins brought: loaded once, looked up by name."""

from hub.registry.loader import load_plugins
from hub.registry.making import make_file_store, make_listeners, make_secret_sources, run_cleaners
from hub.registry.project import Project, load_projects, read_project
from hub.registry.registry import PluginReport, Registry

__all__ = [
    "PluginReport",
    "Project",
    "Registry",
    "load_plugins",
    "load_projects",
    "make_file_store",
    "make_listeners",
    "make_secret_sources",
    "read_project",
    "run_cleaners",
]
