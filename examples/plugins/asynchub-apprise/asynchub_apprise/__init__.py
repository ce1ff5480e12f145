"""Notices over Apprise, a plugin of asynchub."""
