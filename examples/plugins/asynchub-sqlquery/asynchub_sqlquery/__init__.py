"""Queries of SQLite and PostgreSQL, a plugin of asynchub."""
