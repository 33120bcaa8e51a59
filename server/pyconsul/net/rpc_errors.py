"""The RPC face's errors: text goes out, a class comes in.

A server sends ``str(error)``; ``error_from_text`` gives the class back, so
that a client agent's HTTP face answers with the status a server would have
used. Texts are those of ``wire-rpc.md`` section 2 and of what ``endpoints/``
raises; everything else is a plain ``ConsulError`` (500).
"""

from __future__ import annotations

import errno
import os

from pyconsul.types.errors import (
    AclDisabledError,
    BadRequestError,
    ConnectDisabledError,
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
    NoServersError,
    NotFoundError,
    PermissionDeniedError,
    TooManyRequestsError,
    TryLaterError,
)

RELAYED = "rpc error making call: "
"""What each agent that relays an error puts before it."""

NO_CONNECTION = "rpc error getting client: failed to get conn: "

# What a server says of a call it cannot read; it closes the stream after it.
NO_METHOD = "rpc: can't find method "
NO_SERVICE = "rpc: can't find service "
ILL_FORMED = "rpc: service/method request ill-formed: "
UNREADABLE = "codec.decoder: "
ENDING = (NO_METHOD, NO_SERVICE, ILL_FORMED, UNREADABLE)

# First match decides. Substrings, as callers of Consul match them.
_CONTAINED: tuple[tuple[str, type[ConsulError]], ...] = (
    ("Permission denied", PermissionDeniedError),
    ("ACL not found", PermissionDeniedError),
    ("ACL support disabled", AclDisabledError),
    ("Connect must be enabled in order to use this endpoint", ConnectDisabledError),
    ("RPC rate limit exceeded", TooManyRequestsError),
    ("rate limit exceeded, try again later", TooManyRequestsError),
    ("rate limit exceeded for operation", TryLaterError),
    ("No cluster leader", NoLeaderError),
    ("No path to datacenter", NoPathToDatacenterError),
    ("No known Consul servers", NoServersError),
    ("Query not found", NotFoundError),
    ("Intention not found", NotFoundError),
)
# Texts of ``BadRequestError`` as endpoints and codecs raise it. Prefixes: the
# same words inside a longer text are another error's cause.
_BAD_REQUEST = (
    "Must provide Coord",
    "msgpack decode error: ",
    "time: invalid duration ",
    "time: missing unit in duration ",
    "time: unknown unit ",
)


class RpcConnectionError(ConsulError):
    """The call failed with its connection; ``sent``: it may have been done."""

    def __init__(self, text: str, *, sent: bool) -> None:
        super().__init__(text)
        self.sent = sent


def error_from_text(text: str) -> ConsulError:
    """Return the error a peer means, without the prefixes of relaying agents."""
    while text.startswith(RELAYED):
        text = text[len(RELAYED) :]
    for part, kind in _CONTAINED:
        if part in text:
            error = kind.__new__(kind)
            error.args = (text,)  # some classes take no text of their own
            return error
    if text.startswith(_BAD_REQUEST):
        return BadRequestError(text)
    return ConsulError(text)


def dial_error(address: str, error: OSError) -> RpcConnectionError:
    """Return the failure to connect, in Go's words."""
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        reason = "i/o timeout"
    elif error.errno and error.errno > 0:
        reason = f"connect: {os.strerror(error.errno).lower()}"
    else:
        reason = str(error)
    return RpcConnectionError(
        f"{NO_CONNECTION}dial tcp {address}: {reason}", sent=False
    )


def broken_call(reason: str = "EOF", *, sent: bool) -> RpcConnectionError:
    """Return the failure of a call whose connection or stream broke."""
    return RpcConnectionError(f"{RELAYED}{reason}", sent=sent)
