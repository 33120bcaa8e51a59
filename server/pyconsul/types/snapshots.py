"""Saving and restoring the whole state: the stream beside the calls.

Archives do not fit into ``Caller.call``: they are streamed (``wire-rpc.md``
section 6). Faces reach them by ``SnapshotPort``.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol

import msgspec

SAVE, RESTORE = 0, 1


class SnapshotRequest(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """What is asked for: ``op`` is ``SAVE`` or ``RESTORE``."""

    datacenter: str = ""
    token: str = ""
    allow_stale: bool = False
    op: int = SAVE


class SnapshotReply(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The answer before the archive; ``last_contact`` in nanoseconds."""

    backend: int = 0
    consistency_level: str = ""
    error: str = ""
    index: int = 0
    known_leader: bool = False
    last_contact: int = 0
    not_modified: bool = False


class SavedSnapshot(Protocol):
    """An archive on its way; close it in any case."""

    reply: SnapshotReply

    async def read(self) -> bytes:
        """Return the next piece, ``b""`` at the end; raises ``ConsulError``."""
        ...

    def close(self) -> None:
        """Give up what is left."""
        ...


class SnapshotPort(Protocol):
    """Where archives come from and go to."""

    async def save(self, request: SnapshotRequest) -> SavedSnapshot:
        """Begin to save; raises ``ConsulError``."""
        ...

    async def restore(
        self, request: SnapshotRequest, archive: BinaryIO
    ) -> SnapshotReply:
        """Replace the state by a whole archive; raises ``ConsulError``.

        Nothing has changed when the archive is refused.
        """
        ...
