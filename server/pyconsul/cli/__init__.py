"""The ``pyconsul`` command."""
