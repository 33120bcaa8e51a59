"""Tells a service manager how it goes: see ``pyconsul_client.tool.notify``."""

from pyconsul_client.tool.notify import STATUS_S, Notifier

__all__ = ["STATUS_S", "Notifier"]
