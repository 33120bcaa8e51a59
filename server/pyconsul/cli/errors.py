"""What the commands raise, and the one table of exit statuses.

Observed: Consul 1.10.11 command line. ``str(error)`` is printed on stderr.
"""

from __future__ import annotations

from pyconsul_client.errors import ClientError, FlagError, HelpRequested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


class CommandError(Exception):
    """A command did not do what was asked."""


class WrongUsageError(CommandError):
    """The command was called wrongly, in a way that its help explains."""


class NothingFoundError(CommandError):
    """There is nothing to show, which scripts want to notice; prints nothing."""

    def __init__(self) -> None:
        super().__init__("")


UNKNOWN_COMMAND = 127
"""Exit status when there is no such command."""

EXIT_BY_ERROR: Mapping[type[BaseException], int] = {
    HelpRequested: 0,
    CommandError: 1,
    ClientError: 1,
    OSError: 1,
    KeyboardInterrupt: 1,
    NothingFoundError: 2,
}

SHOWS_HELP = (FlagError, WrongUsageError)
"""Errors whose text is followed by the help of the command."""


def exit_status(error: BaseException) -> int:
    """Return the status of the nearest ancestor listed, 1 when none is."""
    for cls in type(error).__mro__:
        if cls in EXIT_BY_ERROR:
            return EXIT_BY_ERROR[cls]
    return 1
