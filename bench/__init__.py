"""Benchmarks: what a user waits for, each beside its bare limit in the same run."""
