"""pyconsul: the agent, the server and the ``pyconsul`` command."""

__version__ = "0.1.0"

CONSUL_VERSION = "1.10.11"
"""The Consul release whose formats and answers this one speaks."""
