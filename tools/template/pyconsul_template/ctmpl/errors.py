"""What is wrong with a Go template."""

from __future__ import annotations


class GoSyntaxError(Exception):
    """The text is no template; ``line`` counts from 1."""

    def __init__(self, line: int, text: str) -> None:
        self.line = line
        self.text = text
        super().__init__(text)


class GoExecError(Exception):
    """A template cannot go on with the values it met."""
