"""The built-in plugin ``kafka``: topics as sources of events, and records as a task's work."""
