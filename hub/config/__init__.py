"""Settings, and YAML to flows: positions, bounds, lint, JSON Schema."""
