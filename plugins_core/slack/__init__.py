"""The built-in plugin ``slack``: the notifier ``slack``, by incoming webhook or as a bot."""
