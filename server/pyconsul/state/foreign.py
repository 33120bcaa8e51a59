"""Records that nothing here writes, read from where a restore has put them.

They came with an archive of another cluster and are kept as they were
(``Tables.raw``); records of the kinds below can be asked for.
"""

from __future__ import annotations

from typing import Any, cast

from pyconsul.state.tables import Tables
from pyconsul.state.watch import Read
from pyconsul.types.gomsgpack import MsgpackError, Plain, from_plain, unpack
from pyconsul.types.intentions import Intention
from pyconsul.types.mesh import FederationState

INTENTION, FEDERATION_STATE = 12, 30
_INTENTIONS = "connect-intentions"
_FEDERATION = "federation-states"


def federation_states(tables: Tables) -> Read:
    """``list[FederationState]`` by datacenter; ``MsgpackError`` if malformed."""
    found = [
        from_plain(_map(unpack(body)).get("State") or {}, FederationState)
        for body in tables.raw.get(FEDERATION_STATE, ())
    ]
    found.sort(key=lambda state: state.datacenter)
    return _read(tables, found, _FEDERATION)


def legacy_intentions(tables: Tables) -> Read:
    """``list[Intention]`` of before 1.9; ``MsgpackError`` if malformed."""
    found = [
        from_plain(unpack(body), Intention) for body in tables.raw.get(INTENTION, ())
    ]
    return _read(tables, found, _INTENTIONS)


def _read(tables: Tables, value: list[Any], table: str) -> Read:
    journal = tables.journal
    return Read(value, journal.index(table), journal.table_cells(table))


def _map(value: Any) -> Plain:
    if not isinstance(value, dict):
        raise MsgpackError("msgpack decode error: record is no map")
    return cast(Plain, value)
