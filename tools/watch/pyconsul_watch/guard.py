"""The guard of ``pyconsul lock``: ends the child when its keeper falls silent.

A process of its own, ``python guard.py PID GRACE``. The keeper writes, to its
standard input, lines with the time until which the lock is its own; when that
has come without another line, or the input ends without the word ``done``,
the process group PID gets SIGTERM, and SIGKILL after GRACE seconds. So a child
does not outlive a lock because the keeper was suspended, or killed. Imports
little: it starts before every child.
"""

import os
import select
import signal
import sys
import time

TICK_S = 0.25
CHUNK = 4096


def clock() -> float:
    """Return seconds of a clock that goes on while the machine sleeps."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def watch(source: int) -> bool:
    """Return true when the keeper said it is done, false when it fell silent."""
    until = clock() + TICK_S * 20
    rest = b""
    while True:
        left = until - clock()
        if left <= 0:
            return False
        if not select.select([source], [], [], min(left, TICK_S))[0]:
            continue
        data = os.read(source, CHUNK)
        if not data:
            return False
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            if line == b"done":
                return True
            try:
                until = float(line)
            except ValueError:
                # Cut short, for the word that follows it.
                continue


def end(group: int, grace: float) -> None:
    """End a process group: asked first, killed after ``grace`` seconds."""
    try:
        # A stopped child has to run to hear that it should end.
        os.killpg(group, signal.SIGTERM)
        os.killpg(group, signal.SIGCONT)
        until = time.monotonic() + grace
        while time.monotonic() < until:
            os.killpg(group, 0)
            time.sleep(TICK_S / 5)
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        # Gone, or (macOS) only zombies are left.
        pass


if __name__ == "__main__":
    if not watch(0):
        end(int(sys.argv[1]), float(sys.argv[2]))
