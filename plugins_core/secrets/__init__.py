"""The built-in plugin ``secrets``: secrets from the environment and from ``secrets.env``."""
