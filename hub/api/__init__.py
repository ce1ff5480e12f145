"""HTTP: one file per resource, one guard before all of them."""

from hub.api.application import Api, build_application, listen, open_api, start_api
from hub.api.door import Door
from hub.api.reload import Reloads, ReloadStatus

__all__ = ["Api", "Door", "ReloadStatus", "Reloads", "build_application", "listen", "open_api", "start_api"]
