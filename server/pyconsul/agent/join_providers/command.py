"""``provider=exec command="prog arg"``: addresses that a program prints.

The command is split as a shell would, but no shell runs it. It has 10 seconds
(``timeout=``) and is killed, with its process group, when they are over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import subprocess

from pyconsul.agent.join_providers import DiscoverError, Settings, only, seconds
from pyconsul.agent.join_providers.file import addresses

MAX_BYTES = 64 << 10
TIMEOUT_S = 10.0


async def find(settings: Settings) -> list[str]:
    """Return the addresses printed; raises ``DiscoverError``."""
    only("exec", settings, "command", "timeout")
    try:
        argv = shlex.split(settings.get("command", ""))
    except ValueError as error:
        raise DiscoverError(f"discover-exec: command: {error}") from None
    if not argv:
        raise DiscoverError("discover-exec: command is missing")
    limit = seconds("exec", settings, TIMEOUT_S)
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DiscoverError(f"discover-exec: {argv[0]}: {reason.lower()}") from None
    try:
        async with asyncio.timeout(limit):
            out, said = await asyncio.gather(
                _read(process.stdout), _read(process.stderr)
            )
            code = await process.wait()
    except TimeoutError:
        raise DiscoverError(
            f"discover-exec: {argv[0]}: timed out after {limit:g}s"
        ) from None
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()
    if code != 0:
        reason = said.decode(errors="replace").strip()[-200:]
        raise DiscoverError(f"discover-exec: {argv[0]}: exit status {code}: {reason}")
    return addresses(out.decode(errors="replace"))


async def _read(stream: asyncio.StreamReader | None) -> bytes:
    assert stream is not None
    kept = b""
    while data := await stream.read(16384):
        kept = (kept + data)[:MAX_BYTES]
    return kept
