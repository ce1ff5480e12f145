"""The built-in plugin ``memory``: a storage that forgets, for tests and for ``hub run FILE``."""
