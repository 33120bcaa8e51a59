"""Telling when the files of the configuration have changed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from pyconsul_template.files import config_files
from pyconsul_template.looking import stamp

POLL_S = 1.0


async def watch_config(
    paths: Callable[[], Sequence[str]], changed: Callable[[], None]
) -> None:
    """Call ``changed`` at each change, until cancelled; a folder counts whole.

    Looked at, not watched: files of a configuration may come by links that are
    swapped, of which the operating system tells nothing.
    """
    last = _stamps(paths())
    while True:
        await asyncio.sleep(POLL_S)
        now = _stamps(paths())
        if now != last:
            if last and now:
                changed()
            last = now


def _stamps(paths: Sequence[str]) -> dict[str, tuple[int, int, int] | None]:
    return {str(file): stamp(file) for path in paths for file in config_files(path)}
