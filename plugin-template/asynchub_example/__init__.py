"""Tasks and triggers for Example, a plugin of asynchub."""
