"""State and files in PostgreSQL, shared by any number of hubs."""
