"""What the API shows: one model per thing, JSON names in camelCase; a module for each resource."""
