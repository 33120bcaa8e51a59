"""HAProxy's stats socket: servers set at run time, and looked at afterwards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from pyconsul_template.addresses import split_address
from pyconsul_template.haproxy import (
    Running,
    Update,
    commands_for,
    differences,
    parse_state,
)
from pyconsul_template.schema import ConfigError

PREFIX = "haproxy-socket:"
"""Of ``notify``, before the address."""
TIMEOUT_S = 5.0
LINE_BYTES_MAX = 8000
"""HAProxy reads a line into a buffer of 16 kB."""
ANSWER_BYTES_MAX = 32 * 1024 * 1024


class HaproxyError(Exception):
    """The servers could not be set; only a reload will do."""


def check_address(where: str, address: str) -> None:
    """Raise ``ConfigError`` for what is neither a path nor HOST:PORT."""
    if not address.startswith("/"):
        try:
            split_address(address)
        except ConfigError as error:
            text = f"{where}: {address!r} is neither /PATH nor HOST:PORT"
            raise ConfigError(text) from error


async def apply(address: str, update: Update) -> int:
    """Set the servers; return how many commands it took.

    Raises ``HaproxyError`` unless HAProxy ran the old servers before and runs
    the new ones now.
    """
    if not update:
        return 0
    try:
        async with asyncio.timeout(TIMEOUT_S):
            before = await _state(address)
            commands: list[str] = []
            for backend in update:
                found = commands_for(backend, before.get(backend.name, {}))
                if found is None:
                    text = f"it does not run the servers of {backend.name}"
                    raise HaproxyError(f"{address}: {text}")
                commands += found
            answers = [await _ask(address, line) for line in _lines(commands)]
            after = await _state(address)
    except TimeoutError as error:
        raise HaproxyError(f"{address}: no answer") from error
    except (OSError, ValueError) as error:
        raise HaproxyError(f"{address}: {error}") from error
    wrong = [
        text
        for backend in update
        for text in differences(backend, after.get(backend.name, {}))
    ]
    if wrong:
        said = " ".join(" ".join(answers).split())[:500]
        raise HaproxyError(f"{address}: {'; '.join(wrong[:5])}; it said: {said}")
    return len(commands)


async def _state(address: str) -> dict[str, dict[str, Running]]:
    return parse_state(await _ask(address, "show servers state"))


def _lines(commands: list[str]) -> Iterator[str]:
    """Yield the commands, as many a line as fit."""
    line = ""
    for command in commands:
        if line and len(line) + len(command) >= LINE_BYTES_MAX:
            yield line
            line = ""
        line = f"{line};{command}" if line else command
    if line:
        yield line


async def _ask(address: str, line: str) -> str:
    """Return the answer to a line; the socket takes one a connection."""
    if address.startswith("/"):
        reader, writer = await asyncio.open_unix_connection(address)
    else:
        reader, writer = await asyncio.open_connection(*split_address(address))
    try:
        writer.write(f"{line}\n".encode())
        await writer.drain()
        answer = bytearray()
        while part := await reader.read(65536):
            answer += part
            if len(answer) > ANSWER_BYTES_MAX:
                raise ValueError("the answer is too long")
    finally:
        writer.close()
    return answer.decode(errors="replace")
