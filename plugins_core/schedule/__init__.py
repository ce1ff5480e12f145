"""The built-in plugin ``schedule``: planned times become events."""
