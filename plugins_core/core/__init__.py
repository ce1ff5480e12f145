"""The built-in plugin ``core``: log, return, and the tasks that steer a flow."""
