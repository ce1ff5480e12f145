"""The built-in plugin ``csv``: tables in text files become rows."""
