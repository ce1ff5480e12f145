"""The limits beneath: the same durable writes, imports and spawns by a page of code, with nothing of the hub."""
