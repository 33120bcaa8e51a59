"""``-watch=false``: this process becomes the command, no parent stays."""

from __future__ import annotations

import os
import signal

from pyconsul_client.tool import exits
from pyconsul_client.tool.exits import ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


def become(
    argv: list[str],
    environment: Mapping[bytes, bytes],
    ready: Callable[[], None] | None = None,
) -> None:
    """Replace this process, and call ``ready`` before. Returns never.

    Raises ToolError (14) when there is no such program.
    """
    # Found by our own PATH, as a child is: the new one may have none.
    path = _found(argv[0], os.get_exec_path())
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if ready is not None:
        ready()
    try:
        os.execve(path, argv, environment)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        text = f'exec: "{argv[0]}": {reason}'
        raise ToolError(exits.FAILED, text) from error


def _found(name: str, folders: list[str]) -> str:
    if "/" in name:
        return name
    for folder in folders:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    text = f'exec: "{name}": executable file not found in $PATH'
    raise ToolError(exits.FAILED, text)
