"""The built-in plugin ``http``: requests to anywhere."""
