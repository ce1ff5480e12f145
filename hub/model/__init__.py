"""Frozen data and the rules that belong to it; no I/O."""
