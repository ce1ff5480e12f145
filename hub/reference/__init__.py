"""Reference pages out of the code itself: components, settings, expressions, the flow's own keys.

Called by ``hub reference`` and by the tests that keep the committed pages true.
"""

from hub.reference.pages import pages

__all__ = ["pages"]
