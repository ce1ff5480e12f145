"""Publish, subscribe, bounded queues."""

from hub.bus.bus import Bus, News, Subscription

__all__ = ["Bus", "News", "Subscription"]
