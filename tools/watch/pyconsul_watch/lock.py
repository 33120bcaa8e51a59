"""``pyconsul lock``: a command that runs only while a lock is held.

Observed: Consul 1.10.11 ``consul lock``: flags, texts, keys, exit statuses. Other
than Consul's, waiting goes on when the servers elect a leader, and the child
dies with this process, or while it is suspended (``guard.py``).
"""

from __future__ import annotations

import signal
import sys

from pyconsul_client.errors import (
    ApiError,
    ClientError,
    OptionsError,
)
from pyconsul_client.goflags import FlagSet
from pyconsul_client.oneshot import request
from pyconsul_client.options import add_client_flags, add_server_flags, from_flags

from .words import read

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyconsul_client.options import Options

USAGE = """\
Usage: pyconsul lock [options] prefix child...

  Acquires a lock or semaphore at a given path, and invokes a child process
  when successful. The child process can assume the lock is held while it
  executes. If the lock is lost or communication is disrupted the child
  process will be sent a SIGTERM signal and given time to gracefully exit.
  After the grace period expires the process will be hard terminated.

  When -n=1, only a single lock holder or leader exists providing mutual
  exclusion. Setting a higher value switches to a semaphore allowing multiple
  holders to coordinate.

  The prefix provided must have write privileges."""


class Settings:
    """What a command line asks for."""

    __slots__ = (
        "argv",
        "child_code",
        "limit",
        "name",
        "options",
        "prefix",
        "retries",
        "stdin",
        "timeout",
        "verbose",
    )

    def __init__(self, flags: FlagSet, options: Options) -> None:
        from pyconsul_client.process import shell_argv

        prefix, *words = flags.operands
        self.options = options
        self.prefix = prefix.removeprefix("/").rstrip("/")
        command = " ".join(words)
        self.argv = shell_argv(command) if flags.switch("shell") else words
        self.name = (
            flags.text("name") or f"Consul lock for '{command}' at '{self.prefix}'"
        )
        self.limit = flags.number("n")
        self.retries = flags.number("monitor-retry")
        self.timeout = timeout_of(flags) or None
        self.stdin = flags.switch("pass-stdin")
        self.child_code = flags.switch("child-exit-code")
        self.verbose = flags.switch("verbose")


def lock_main(argv: list[str]) -> int:
    """Run the command with the words after ``lock``; return the exit status."""
    flags = declared()
    over = read(flags, argv, USAGE)
    if over is not None:
        return over
    if flags.number("n") <= 0:
        return fail("Lock holder limit must be positive")
    if len(flags.operands) < 2:
        return fail("Key prefix and child command must be specified")
    if timeout_of(flags) < 0:
        return fail("Timeout must be positive")
    if flags.number("monitor-retry") < 0:
        return fail("Number for 'monitor-retry' must be >= 0")
    try:
        options = from_flags(flags)
    except OptionsError as error:
        return fail(f"Error connecting to Consul agent: {error}")
    try:
        status, _, body = request("GET", "/v1/agent/self", options=options)
        if status != 200:
            raise ApiError(status, body[:4096].decode(errors="replace").strip())
    except ClientError as error:
        return fail(f"Error querying Consul agent: {error}")
    # Imported here: asyncio and friends cost more than all of the above.
    import anyio

    from .lock_run import run

    sys.stdout.flush()
    try:
        return anyio.run(run, Settings(flags, options))
    except OptionsError as error:
        return fail(f"Error connecting to Consul agent: {error}")
    except KeyboardInterrupt:
        # Before the signal was ours to handle, or after it was.
        return 128 + signal.SIGINT


def fail(text: str) -> int:
    """Print an error; return the exit status that goes with it."""
    sys.stdout.flush()
    print(text, file=sys.stderr, flush=True)
    return 1


def timeout_of(flags: FlagSet) -> float:
    """Return ``-timeout``, or its other name ``-try``; 0: none."""
    return flags.seconds("try") if "try" in flags.given else flags.seconds("timeout")


def declared() -> FlagSet:
    """Return the flags of the command, not yet parsed."""
    flags = FlagSet()
    add_client_flags(flags)
    add_server_flags(flags)
    flags.boolean(
        "child-exit-code",
        text="Exit 2 if the child process exited with an error if this is true, "
        "otherwise this doesn't propagate an error from the child.",
    )
    flags.integer(
        "n", 1, "Maximum number of allowed lock holders. If greater than one, a "
        "semaphore is used.",
    )  # fmt: skip
    flags.string(
        "name",
        text="Optional name to associate with the lock session. If not provided, "
        "one is generated based on the provided child command.",
    )
    flags.boolean("shell", True, "Use a shell to run the command.")
    flags.boolean("pass-stdin", text="Pass stdin to the child process.")
    flags.duration(
        "timeout", text="Maximum amount of time to wait to acquire the lock."
    )
    flags.duration("try", text="The same as -timeout.")
    flags.integer(
        "monitor-retry",
        3,
        "Number of times to retry if the agent returns a 500 error, or cannot be "
        "reached, while monitoring the lock. Retries are 1s apart.",
    )
    flags.boolean("verbose", text="Enable verbose output.")
    return flags
