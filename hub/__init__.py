"""asynchub: an async, plugin-centric automation hub. Importing it loads and starts nothing."""

__version__ = "0.1.0"
