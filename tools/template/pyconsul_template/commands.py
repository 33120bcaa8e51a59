"""Running the operator's commands: argv where possible, bounded in time.

A command given as text runs without a shell when it is plain words; text that
uses the shell's syntax (``|``, ``&&``, ``$HOME``, globs...) goes to ``sh -c``,
as in the reference. Only configuration reaches this module, never template
data. A command has its own session, so that a signal to the terminal does not
reach it and a timeout can end the whole group; what it leaves running on
purpose after a good exit (``haproxy -D``) lives on.
"""

from __future__ import annotations

import asyncio
import contextlib
import fnmatch
import os
import shlex
import signal
from collections.abc import Mapping, Sequence

from msgspec import Struct

DEFAULT_TIMEOUT_S = 30.0
_SHELL_SYNTAX = frozenset("|&;<>()$`*?[]#~{}!\n")
"""Characters that mean more to ``sh`` than quoting does."""
_SHELL_WORDS = frozenset((
    *(".", ":", "cd", "command", "eval", "exec", "exit", "export", "read", "set"),
    *("source", "trap", "type", "ulimit", "umask", "unset", "wait"),
    *("if", "for", "case", "while", "until"),
))  # fmt: skip
"""First words that only a shell understands."""


class Filter(Struct, frozen=True):
    """What of our environment a program gets: deny beats allow, custom both."""

    pristine: bool = False
    custom: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()

    def __call__(self, given: Mapping[str, str]) -> dict[str, str]:
        """Return the program's variables."""
        found: dict[str, str] = {}
        if not self.pristine:
            found = {
                name: value
                for name, value in given.items()
                if (not self.allowed or _matches(name, self.allowed))
                and not _matches(name, self.denied)
            }
        for item in self.custom:
            name, _, value = item.partition("=")
            found[name] = value
        return found


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


class Command(Struct, frozen=True):
    """A command to run; equal commands run once a pass. Times in seconds."""

    argv: tuple[str, ...]
    timeout_s: float = DEFAULT_TIMEOUT_S
    kill_signal: int = 0
    """Sent when the time is over, before SIGKILL; 0: SIGKILL at once."""
    kill_timeout_s: float = DEFAULT_TIMEOUT_S
    """From the kill signal to SIGKILL."""
    splay_s: float = 0.0
    """The longest random wait before the command."""
    environment: Filter = Filter()

    def __str__(self) -> str:
        if self.argv[:2] == ("/bin/sh", "-c"):
            return self.argv[2]
        return shlex.join(self.argv)


class CommandError(Exception):
    """The command failed, timed out or could not be started."""


def parse_command(
    value: str | Sequence[str], timeout_s: float = DEFAULT_TIMEOUT_S
) -> Command | None:
    """Return the command of a configuration value, ``None`` for an empty one.

    A list of two or more is an argv; a text, or a list of one text, may be a
    shell line.
    """
    words = [value] if isinstance(value, str) else list(value)
    if not words or not any(word.strip() for word in words):
        return None
    if len(words) > 1:
        return Command(tuple(words), timeout_s)
    text = words[0].strip()
    if _SHELL_SYNTAX.isdisjoint(text):
        with contextlib.suppress(ValueError):
            argv = tuple(shlex.split(text))
            if "=" not in argv[0] and argv[0] not in _SHELL_WORDS:
                return Command(argv, timeout_s)
    return Command(("/bin/sh", "-c", text), timeout_s)


async def run_command(command: Command, environment: Mapping[str, str]) -> None:
    """Run to the end; raises ``CommandError`` unless it exits with 0 in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *command.argv,
            stdin=asyncio.subprocess.DEVNULL,
            env=command.environment({**os.environ, **environment}),
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        raise CommandError(f"{command}: {error}") from error
    try:
        async with asyncio.timeout(command.timeout_s):
            status = await process.wait()
    except TimeoutError:
        await _end(process, command)
        text = f"{command}: no end after {command.timeout_s:g}s, killed"
        raise CommandError(text) from None
    except asyncio.CancelledError:
        await _kill(process)
        raise
    if status < 0:
        raise CommandError(f"{command}: ended by {signal.Signals(-status).name}")
    if status:
        raise CommandError(f"{command}: exit status {status}")


async def _end(process: asyncio.subprocess.Process, command: Command) -> None:
    if command.kill_signal:
        with contextlib.suppress(ProcessLookupError, TimeoutError):
            os.killpg(process.pid, command.kill_signal)
            async with asyncio.timeout(command.kill_timeout_s):
                await process.wait()
    await _kill(process)


async def _kill(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
