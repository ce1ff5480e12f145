"""Serve a hub, and have another process take over from it without a refused request.

Nothing is imported here: a process that is to take over says what goes wrong from its very first import on.
"""
