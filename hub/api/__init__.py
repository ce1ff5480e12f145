"""HTTP: one file per resource, one guard before all of them."""

from hub.api.application import Api, build_application, start_api

__all__ = ["Api", "build_application", "start_api"]
