"""The methods of the RPC port: the call table on the wire (``wire-rpc.md`` 5).

``METHODS[name]`` turns arguments and replies of ``docs/design.md``'s table into
the plain values that ``gomsgpack`` packs, and back. Servers decode arguments
and encode replies; clients and forwarding servers do the reverse. Decoders
take any plain value and raise ``BadRequestError`` naming the field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pyconsul.net.rpc_forms import QUERY_NOT_FOUND
from pyconsul.net.rpc_replies import ANSWERS
from pyconsul.net.rpc_requests import ARGUMENTS
from pyconsul.types.messages import Reply
from pyconsul.types.passed import ACL_WRITES, CONNECT_WRITES


@dataclass(frozen=True, slots=True)
class RpcMethod:
    """One method: how its arguments and its reply cross the wire.

    ``kind`` is the type of the arguments. ``reads``: calling again does no
    harm, so a call may be repeated when nobody knows whether it was served.
    ``reply_to_plain`` raises ``NotFoundError`` where the wire has an error for
    an absent value; ``absent_reply`` is its reverse.
    """

    name: str
    kind: type[Any]
    reads: bool
    args_to_plain: Callable[[Any], Any]
    args_from_plain: Callable[[Any], Any]
    reply_to_plain: Callable[[Reply, Any], Any]
    reply_from_plain: Callable[[Any, Any], Reply]
    absent: Callable[[], Any] | None = None

    def absent_reply(self, error: str) -> Reply | None:
        """Return the reply an error text stands for; ``None``: it is an error."""
        if self.absent is None or QUERY_NOT_FOUND not in error:
            return None
        return Reply(self.absent(), 1)


_CHANGES = (
    frozenset(
        (
            "Catalog.Deregister",
            "Catalog.Register",
            "ConfigEntry.Apply",
            "ConfigEntry.Delete",
            "Coordinate.Update",
            "Internal.EventFire",
            "Internal.KeyringOperation",
            "KVS.Apply",
            "Operator.AutopilotSetConfiguration",
            "Operator.RaftRemovePeerByAddress",
            "Operator.RaftRemovePeerByID",
            "Operator.TransferLeader",
            "PreparedQuery.Apply",
            "Session.Apply",
            "Txn.Apply",
        )
    )
    | ACL_WRITES
    | CONNECT_WRITES
)
"""Methods that must not be repeated blindly. ``Session.Renew`` may be."""


def _methods() -> dict[str, RpcMethod]:
    return {
        name: RpcMethod(
            name=name,
            kind=arguments.kind,
            reads=name not in _CHANGES,
            args_to_plain=arguments.write,
            args_from_plain=arguments.read,
            reply_to_plain=ANSWERS[name].write,
            reply_from_plain=ANSWERS[name].read,
            absent=ANSWERS[name].absent,
        )
        for name, arguments in ARGUMENTS.items()
    }


METHODS: dict[str, RpcMethod] = _methods()
"""The methods there are, by wire name."""


def is_read(method: str) -> bool:
    """Tell whether a method may be called again without harm."""
    found = METHODS.get(method)
    return found is not None and found.reads
