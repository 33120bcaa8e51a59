"""Followers ask the leader over the pool of RPC connections."""

from __future__ import annotations

from asyncio import Future
from typing import Any, Protocol

from pyconsul.endpoints.routed_calls import RPC_HOLD_TIMEOUT_S, CallTimes
from pyconsul.types.messages import Reply


class CallPool(Protocol):
    """Connections to other servers (``rpc_pool.py``)."""

    def call(
        self, address: str, method: str, args: Any, *, timeout_s: float
    ) -> Future[Reply]:
        """Ask the server at ``ip:port``.

        Connection failures are ``RpcConnectionError``; cancelling gives up.
        """
        ...


class LeaderForwarder:
    """Implements ``endpoints.server.Forwarder``."""

    def __init__(
        self,
        pool: CallPool,
        hold_s: float = RPC_HOLD_TIMEOUT_S,
        times: CallTimes | None = None,
    ) -> None:
        self._times = times or CallTimes()
        self._pool = pool
        self._hold_s = hold_s

    def forward(self, method: str, args: Any, address: str) -> Future[Reply]:
        """Ask ``address`` once, for as long as the call may take there."""
        timeout_s = self._times.timeout_s(args, self._hold_s)
        return self._pool.call(address, method, args, timeout_s=timeout_s)
