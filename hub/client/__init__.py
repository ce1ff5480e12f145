"""HTTP to a hub."""

from hub.client.client import HubClient

__all__ = ["HubClient"]
