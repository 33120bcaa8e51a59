"""The replicator's own errors."""

from __future__ import annotations

from pyconsul_client.errors import ClientError, ProtocolError


class ReplyError(ProtocolError):
    """An answer is not what it should be."""


class RefusedError(ClientError):
    """The pass was carried out but for its deletes; the text says why."""


class LeadLostError(ClientError):
    """Another instance leads: nothing was written."""


class SetupError(ClientError):
    """The two sides cannot be put together: same datacenter, a loop."""


class OvertakenError(ClientError):
    """Another instance of a two-way job works: nothing was written."""
