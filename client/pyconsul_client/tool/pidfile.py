"""A file with our process id, there while we run."""

from __future__ import annotations

import os

from .exits import ERROR, ToolError


class PidFile:
    """A context manager; an empty path does nothing.

    Raises ToolError when the file cannot be written.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> PidFile:
        if self._path:
            try:
                with open(self._path, "w", encoding="ascii") as file:
                    file.write(f"{os.getpid()}\n")
            except OSError as error:
                reason = (error.strerror or str(error)).lower()
                text = f"could not open pid file {self._path}: {reason}"
                raise ToolError(ERROR, text) from error
        return self

    def __exit__(self, *_: object) -> None:
        # A device, as /dev/null, stays where it is.
        if os.path.isfile(self._path):
            try:
                os.unlink(self._path)
            except OSError:
                pass  # Removed by somebody else: nothing is left to do.
