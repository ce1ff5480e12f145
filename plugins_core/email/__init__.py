"""The built-in plugin ``email``: the notifier ``email`` over SMTP."""
