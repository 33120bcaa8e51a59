"""Signals by name, and which of them a supervisor passes on."""

from __future__ import annotations

import signal

UNCATCHABLE = ("SIGKILL", "SIGSTOP")
OURS = frozenset(
    # Ours to handle, harmless noise, or a fault of our own process.
    number
    for name in (
        *("SIGCHLD", "SIGURG", "SIGPIPE", "SIGXFSZ", "SIGTSTP", "SIGTTIN", "SIGTTOU"),
        *("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"),
        *("SIGPROF", "SIGVTALRM", "SIGALRM", "SIGSTKFLT", *UNCATCHABLE),
    )
    if (number := getattr(signal, name, None)) is not None
)
"""Never passed on."""


def parse_signal(text: str) -> int:
    """Return the number of ``SIGHUP`` or ``HUP``, 0 for ``""`` (none).

    Raises ValueError for a name not known, or one that cannot be caught.
    """
    if not text:
        return 0
    name = text.upper()
    name = name if name.startswith("SIG") else f"SIG{name}"
    number = getattr(signal, name, None)
    if not isinstance(number, signal.Signals) or name.startswith("SIG_"):
        raise ValueError(f'invalid signal "{text}"')
    return int(number)


def forwarded() -> list[int]:
    """Return the signals a supervisor passes on to its child.

    A SIGHUP ignored from the start stays so: ``nohup`` means it.
    """
    found = [int(n) for n in signal.valid_signals() if n not in OURS and n < 32]
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        found.remove(signal.SIGHUP)
    return found
