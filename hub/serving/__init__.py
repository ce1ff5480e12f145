"""Serve a hub, and have another process take over from it without a refused request."""

from hub.serving.predecessor import Predecessor
from hub.serving.serving import Watching, serve
from hub.serving.stand_in import become
from hub.serving.successor import Heir

__all__ = ["Heir", "Predecessor", "Watching", "become", "serve"]
