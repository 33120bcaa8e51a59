"""What a command is: its help, its flags, and the function that runs it.

Commands of the agent's API share the flags of ``pyconsul_client.options``.
"""

from __future__ import annotations

from pyconsul_client.goflags import FlagSet
from pyconsul_client.options import HTTP_GROUP, add_client_flags, add_server_flags

from .errors import CommandError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class Command:
    """A command of the agent's API, or of none (``client=False``).

    ``usage`` is the beginning of its help; ``declare`` adds its own flags; ``run``
    gets the parsed flags and returns the exit status. ``server`` commands have
    ``-datacenter`` and ``-stale``, ``namespaced`` ones ``-namespace``.
    """

    __slots__ = ("client", "declare", "namespaced", "run", "server", "usage")

    def __init__(
        self,
        usage: str,
        run: Callable[[FlagSet], int],
        declare: Callable[[FlagSet], None] | None = None,
        *,
        client: bool = True,
        server: bool = False,
        namespaced: bool = False,
    ) -> None:
        self.usage = usage
        self.run = run
        self.declare = declare
        self.client = client
        self.server = server
        self.namespaced = namespaced

    def flags(self) -> FlagSet:
        """Return the flags of this command, not yet parsed."""
        flags = FlagSet()
        if self.client:
            add_client_flags(flags)
        if self.server:
            add_server_flags(flags)
        if self.namespaced:
            flags.string("namespace", text="Namespace to work in.", group=HTTP_GROUP)
        if self.declare is not None:
            self.declare(flags)
        return flags


def exactly(flags: FlagSet, count: int, missing: str = "") -> list[str]:
    """Return the operands, of which there have to be ``count``."""
    operands = flags.operands
    if len(operands) > count:
        raise CommandError(
            f"Too many arguments (expected {count}, got {len(operands)})"
        )
    if len(operands) < count:
        raise CommandError(missing)
    return operands
