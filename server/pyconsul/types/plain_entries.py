"""Key-value entries as plain msgpack maps, and back: in RPC, log and snapshots.

By hand, since a prefix may have a hundred thousand of them.
"""

from __future__ import annotations

from typing import Any, cast

from pyconsul.types.gomsgpack import Plain, from_plain, raw_bytes
from pyconsul.types.records import DirEntry


def entry_to_plain(entry: DirEntry) -> Plain:
    """Return ``DirEntry``; no bytes are nil."""
    return {
        "CreateIndex": entry.create_index,
        "Flags": entry.flags,
        "Key": entry.key,
        "LockIndex": entry.lock_index,
        "ModifyIndex": entry.modify_index,
        "Session": entry.session,
        "Value": entry.value or None,
    }


def entry_from_plain(plain: Any) -> DirEntry:
    """Return the entry of an unpacked map; raises ``MsgpackError``."""
    if plain.__class__ is dict:
        get = cast(Plain, plain).get
        lock, key, flags = get("LockIndex", 0), get("Key", ""), get("Flags", 0)
        value, session = get("Value"), get("Session", "")
        created, modified = get("CreateIndex", 0), get("ModifyIndex", 0)
        if (
            lock.__class__ is flags.__class__ is created.__class__ is int
            and modified.__class__ is int
            and key.__class__ is session.__class__ is str
            and (value is None or value.__class__ is str)
            and lock >= 0 <= flags
            and created >= 0 <= modified
        ):
            return DirEntry(
                lock_index=lock,
                key=key,
                flags=flags,
                value=raw_bytes(value),
                session=session,
                create_index=created,
                modify_index=modified,
            )
    return from_plain(plain, DirEntry)  # says what is wrong, or bears nil
