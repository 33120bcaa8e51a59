"""pyconsul watch: follow data, run a handler when it changes."""
