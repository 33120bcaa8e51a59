"""Whether two sides can be put together: two clusters, and no loop."""

from __future__ import annotations

import asyncio

from pyconsul_client.errors import ApiError

from .errors import SetupError
from .model import Pair, overlap
from .store import Store, status_of

LOCAL = "local datacenter cannot be the source datacenter"


async def check_sides(
    pair: Pair, source: Store, destination: Store, *, addressed: bool
) -> tuple[str, str]:
    """Return the datacenters of both; raises SetupError when they are one cluster.

    ``addressed``: the source is another agent than the destination.
    """
    into = destination.agent.datacenter or await _datacenter(destination)
    given = pair.datacenter
    if not addressed:
        if given == into or not given:
            raise SetupError(LOCAL)
        return given, into
    own = await _datacenter(source)
    if given == into and given != own:
        raise SetupError(LOCAL)
    found = (given or own, into)
    if found[0] == into:
        here, there = await asyncio.gather(source.leader(), destination.leader())
        if here == there:
            raise SetupError(f"{LOCAL}: source and destination are one cluster")
    return found


async def check_loop(
    pair: Pair,
    store: Store,
    datacenters: tuple[str, str],
    status_dir: str,
    *,
    own: str = "",
    marked: bool = False,
) -> None:
    """Raise SetupError when the source is itself copied from our destination.

    ``own`` is a status key that does not count. ``marked``: our copies carry the
    mark of their datacenter; where those of the other way do too, nothing turns in
    a circle.
    """
    source, into = datacenters
    try:
        found = await store.entries(status_dir.strip("/") + "/")
    except ApiError as error:
        if error.status == 403:
            return  # Their status keys are not ours to read.
        raise
    for entry in found.entries:
        status = status_of(entry)
        if entry.key == own or (marked and status.origin):
            continue
        if (
            status.datacenter == into
            and status.into == source
            and overlap(status.destination.lstrip("/"), pair.source)
            and overlap(status.source.lstrip("/"), pair.destination)
        ):
            raise SetupError(
                f'a loop: "{pair.source}" of {source} is itself replicated from '
                f'"{status.source}" of {into} ({entry.key}); '
                "-allow-loop if it no longer is"
            )


async def _datacenter(store: Store) -> str:
    try:
        return await store.datacenter()
    except ApiError as error:
        if error.status == 403:
            return ""  # The token may not ask: the checks do without.
        raise
