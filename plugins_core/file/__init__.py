"""The built-in plugin ``file``: files that arrive become events; tasks that read, write, move and list files."""
