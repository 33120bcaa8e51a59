"""Starting Raft: what the store holds, the first entry, recovery by peers.json."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from pyconsul.net.log_store import LogStore, Recovered
from pyconsul.net.raft_recovery import read_peers_file, write_peers_info
from pyconsul.raft.codec import decode_configuration, encode_configuration
from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    CONFIGURATION,
    Configuration,
    Entry,
    HardState,
    Peer,
    Settings,
)
from pyconsul.types.errors import StartError, os_reason

_log = logging.getLogger(__name__)

Start = Callable[[Callable[[OSError | None], None]], None]
"""Begins disk work that reports to the callback it is given."""


class Durably(Protocol):
    """Waits for disk work; raises ``OSError``."""

    def __call__(self, start: Start) -> Awaitable[None]:
        """Begin the work and wait for its end."""
        ...


class Opening(msgspec.Struct, kw_only=True):
    """What a server is started with."""

    node_id: str
    address: str
    bootstrap: bool
    peers_file: Path | None
    settings: Settings
    rng: random.Random


async def open_store(store: LogStore, opening: Opening, durably: Durably) -> Recovered:
    """Open the store; begin an empty log or recover from a lost quorum.

    Raises ``CorruptLogError`` or ``StartError``.
    """
    peers_file = opening.peers_file
    try:
        if peers_file is not None:
            await asyncio.to_thread(_refuse_a_foreign_log, peers_file.parent)
            await asyncio.to_thread(write_peers_info, peers_file.parent)
        found = await asyncio.to_thread(store.open)
        recovery: Configuration | None = None
        if peers_file is not None:
            known = _membership(found, opening)
            recovery = await asyncio.to_thread(read_peers_file, peers_file, known)
        empty = found.last_index == 0 and found.snapshot is None
        if recovery is not None and peers_file is not None:
            if empty:
                raise StartError(
                    "recovery failed: refused to recover cluster with no initial "
                    "state, this is probably an operator error"
                )
            await _write_configuration(store, durably, found, recovery)
            await asyncio.to_thread(peers_file.unlink)
            _log.warning("raft: recovered from peers.json: index=%d", found.last_index)
        elif opening.bootstrap and empty:
            me = Peer(id=opening.node_id, address=opening.address)
            await _write_configuration(
                store, durably, found, Configuration(servers=(me,))
            )
    except OSError as error:
        text = f"raft: cannot open the log: {os_reason(error)}"
        raise StartError(text) from error
    return found


def _refuse_a_foreign_log(folder: Path) -> None:
    """Raise ``StartError`` where only Consul's own log is.

    A server that began an empty one beside it would look as if all was lost.
    """
    if (folder / "log").exists():
        return
    for name in ("raft.db", "wal"):
        if (folder / name).exists():
            raise StartError(
                f"{folder / name} is the log of a Consul server, which cannot be "
                'read. Save a snapshot there ("consul snapshot save"), start with an '
                'empty data_dir and restore it ("pyconsul snapshot restore")'
            )


def make_core(store: LogStore, found: Recovered, opening: Opening, now: float) -> Raft:
    """Return the core that continues from what the store holds."""
    meta = found.snapshot
    configurations = [
        (index, decode_configuration(data)) for index, data in found.configurations
    ]
    if meta is not None:
        configurations = [
            (meta.configuration_index, meta.configuration),
            *(c for c in configurations if c[0] > meta.index),
        ]
    log = RaftLog(
        store,
        first_index=found.first_index,
        last_index=found.last_index,
        terms=found.terms,
        snapshot_index=meta.index if meta else 0,
        snapshot_term=meta.term if meta else 0,
    )
    return Raft(
        opening.node_id,
        log,
        hard_state=found.hard_state,
        configurations=configurations,
        snapshot=meta,
        settings=opening.settings,
        rng=opening.rng,
        now=now,
    )


def _membership(found: Recovered, opening: Opening) -> Configuration:
    """Return the members as far as the log knows them, this server included."""
    known = Configuration()
    if found.configurations:
        known = decode_configuration(found.configurations[-1][1])
    elif found.snapshot is not None:
        known = found.snapshot.configuration
    return known.with_server(Peer(id=opening.node_id, address=opening.address))


async def _write_configuration(
    store: LogStore, durably: Durably, found: Recovered, configuration: Configuration
) -> None:
    """Append a configuration entry, of a term that nobody has used."""
    data = encode_configuration(configuration)
    state = HardState(term=found.hard_state.term + 1)
    index = found.last_index + 1
    entry = Entry(index, state.term, CONFIGURATION, data)
    await durably(partial(store.submit, state, [entry]))
    found.hard_state = state
    found.last_index = index
    found.terms.append((index, state.term))
    found.configurations.append((index, data))
