"""What the floors above may ask of the state: the reads, as signatures.

Every ``Read`` carries the index to block on and the cells to wait for, by the
index granularity table (``http-api.md`` 1.3). Lists hold ``Row`` objects,
whose identity lasts until their content changes. Missing objects are ``None``
or an empty list, never an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from pyconsul.state.watch import Read
from pyconsul.types.messages import Row, TxnOp, TxnResponse
from pyconsul.types.records import Session

Meta = Mapping[str, str] | None


class StateReads(Protocol):
    """Reads of a ``StateStore``; ``Read.value``'s type stands with each."""

    on_session_invalidated: Callable[[Session, Sequence[str]], None] | None
    """Called after a session ended, with the keys it held (for lock-delay)."""

    def kv_get(self, key: str) -> Read:
        """``Row`` of ``DirEntry`` or ``None``."""
        ...

    def kv_list(self, prefix: str) -> Read:
        """``list[Row]`` of ``DirEntry`` in key order."""
        ...

    def kv_keys(self, prefix: str, separator: str = "") -> Read:
        """``list[str]``: keys, cut after the first separator past the prefix."""
        ...

    def nodes(self, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``Node`` by name."""
        ...

    def services(self, meta_filters: Meta = None) -> Read:
        """``dict[str, list[str]]``: service name to its distinct tags."""
        ...

    def service_nodes(
        self,
        name: str,
        tags: Sequence[str] | None = None,
        meta_filters: Meta = None,
        connect: bool = False,
    ) -> Read:
        """``list[Row]`` of ``ServiceInstance`` by node name, then service id."""
        ...

    def node_services(self, node: str) -> Read:
        """``NodeServices`` or ``None``; ``node`` is a name or an ID prefix."""
        ...

    def node_checks(self, node: str) -> Read:
        """``list[Row]`` of ``HealthCheck``."""
        ...

    def service_checks(self, name: str, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``HealthCheck`` of a service's instances."""
        ...

    def checks_in_state(self, state: str, meta_filters: Meta = None) -> Read:
        """``list[Row]`` of ``HealthCheck``; ``any`` is every check."""
        ...

    def check_service_nodes(
        self,
        name: str,
        tags: Sequence[str] | None = None,
        meta_filters: Meta = None,
        connect: bool = False,
        passing_only: bool = False,
    ) -> Read:
        """``list[Row]`` of ``CheckServiceNode`` by node name, then service id."""
        ...

    def session_get(self, session_id: str) -> Read:
        """``list[Session]`` of none or one; ``ConsulError`` for a malformed id."""
        ...

    def sessions(self) -> Read:
        """``list[Session]`` by id."""
        ...

    def node_sessions(self, node: str) -> Read:
        """``list[Session]`` of a node, by id."""
        ...

    def txn_read(self, ops: Sequence[TxnOp]) -> TxnResponse:
        """Answer reading verbs; errors are in the response."""
        ...

    def get_node(self, name: str) -> Any:
        """``Node`` or ``None``."""
        ...

    def get_service(self, node: str, service_id: str) -> Any:
        """``NodeService`` or ``None``."""
        ...

    def get_check(self, node: str, check_id: str) -> Any:
        """``HealthCheck`` or ``None``."""
        ...

    def get_session(self, session_id: str) -> Session | None:
        """The session, or ``None``."""
        ...

    def get_key(self, key: str) -> Row | None:
        """The key's row, or ``None``."""
        ...

    def all_sessions(self) -> list[Session]:
        """Every session (a new leader arms their timers)."""
        ...

    def tombstone_max(self) -> int:
        """The highest tombstone index, 0 when there are none."""
        ...
