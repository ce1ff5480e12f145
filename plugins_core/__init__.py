"""The built-in plugins, one folder each; they use the same door as anybody's."""
