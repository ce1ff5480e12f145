"""The built-in plugin ``webhook``: requests become events."""
