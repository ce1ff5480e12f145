"""The built-in plugin ``script``: programs in any language."""
