"""Process 1 of a container, or ``-reap``: orphans are reaped, signals reach the tool.

Process 1 inherits every process whose parent ended. The tool, whose children
belong to asyncio, runs in a process of its own below it.
"""

from __future__ import annotations

import contextlib
import os
import signal

from pyconsul_client.tool.signals import forwarded

_PR_SET_CHILD_SUBREAPER = 36
"""Source: prctl(2)."""


def give_way() -> None:
    """Return in a child; what calls this never does.

    It ends with the child's exit status, or 128 and the number of the signal
    that ended it, and reaps whatever was left to it.
    """
    if os.getpid() != 1:
        _adopt()
    numbers = {*forwarded(), signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    # Blocked, so that none comes between the fork and the handlers.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return

    def pass_on(number: int, _: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for number in numbers:
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, pass_on)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    while True:
        pid, raw = os.waitpid(-1, 0)
        if pid == child:
            status = os.waitstatus_to_exitcode(raw)
            os._exit(status if status >= 0 else 128 - status)


def _adopt() -> None:
    """Have orphans among our descendants left to us, as to process 1."""
    import ctypes

    # Where there is no such call, those orphans are another's to reap.
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
