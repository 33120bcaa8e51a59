"""Every error a caller can meet, once, with the text clients match on.

Domain errors know nothing of HTTP, DNS or exit codes; each face maps them in
one table (``http/errors.py``, ``dns/errors.py``, ``cli/errors.py``), nearest
ancestor first. ``str(error)`` is the text a client sees.
"""

from __future__ import annotations

import os


def os_reason(error: OSError, verb: str = "open") -> str:
    """Return Go's words for a system error: ``open FILE: permission denied``."""
    if (error.errno or 0) > 0:
        # Some libraries have words of their own in ``strerror``.
        reason = os.strerror(error.errno or 0).lower()
    else:
        reason = (error.strerror or str(error)).lower()
    return f"{verb} {error.filename}: {reason}" if error.filename else reason


class ConsulError(Exception):
    """An expected operating error; also the plain "500 and a text" kind."""


class BadRequestError(ConsulError):
    """The request is malformed: a parameter, the body, a missing argument."""


class PermissionDeniedError(ConsulError):
    """The token may not do this."""

    def __init__(self, text: str = "Permission denied") -> None:
        super().__init__(text)


class AclDisabledError(ConsulError):
    """An ACL endpoint was called while ACLs are off."""

    def __init__(self) -> None:
        super().__init__("ACL support disabled")


class ConnectDisabledError(ConsulError):
    """An endpoint of the mesh was called while Connect is off."""

    def __init__(self) -> None:
        super().__init__("Connect must be enabled in order to use this endpoint")


class NotFoundError(ConsulError):
    """The named object does not exist, where the reference answers 404."""


class ConflictError(ConsulError):
    """A transaction was rolled back."""


class TooLargeError(ConsulError):
    """A body or a value exceeds its limit."""


class TooManyRequestsError(ConsulError):
    """A rate or connection limit was reached."""


class TryLaterError(ConsulError):
    """The leader is asked for more than it may do; no other server can help."""


class NoLeaderError(ConsulError):
    """No server leads; the write was not accepted."""

    def __init__(self) -> None:
        super().__init__("No cluster leader")


class NoServersError(ConsulError):
    """A client agent knows no server."""

    def __init__(self) -> None:
        super().__init__("No known Consul servers")


class NoPathToDatacenterError(ConsulError):
    """The request names a datacenter nobody here has heard of."""

    def __init__(self) -> None:
        super().__init__("No path to datacenter")


class CommandError(ConsulError):
    """A replicated command was applied and refused (same on every server)."""


class ConfigError(ConsulError):
    """A flag or a configuration file is wrong; the text names the field."""


class StartError(ConsulError):
    """The agent could not start; the text names the step and the reason."""


class CorruptLogError(StartError):
    """The Raft log is damaged before its tail."""
