"""The exit statuses of the companion tools, those of the reference tools.

Source: consul-template and envconsul, observed.
"""

from __future__ import annotations

from ..errors import ClientError

OK = 0
ERROR = 11
"""Something else went wrong."""
STOPPED = 12
"""Ended by the signal that stops the tool."""
BAD_FLAGS = 13
FAILED = 14
"""A command that cannot start, retries used up."""
BAD_CONFIG = 15
KILLED = 255
"""The child was ended by a signal."""


class ToolError(ClientError):
    """Ends the tool with a text and an exit status."""

    def __init__(self, status: int, text: str) -> None:
        self.status = status
        super().__init__(text)
