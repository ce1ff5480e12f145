"""SQLite storage: one file, one writer thread, group commit."""
