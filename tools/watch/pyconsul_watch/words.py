"""A command line read, its help shown: alike for all commands of this tool."""

from __future__ import annotations

import sys

from pyconsul_client.errors import FlagError, HelpRequested

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyconsul_client.goflags import FlagSet


def read(flags: FlagSet, argv: Sequence[str], usage: str) -> int | None:
    """Read ``argv``; return the exit status if there is nothing more to do.

    That is 0 after the help, and 1 after what is wrong was said.
    """
    try:
        flags.parse(argv)
    except HelpRequested:
        print(flags.help(usage), end="")
        return 0
    except FlagError as error:
        sys.stdout.flush()
        print(f"{error}\n{flags.help(usage)}", file=sys.stderr, end="")
        return 1
    return None
