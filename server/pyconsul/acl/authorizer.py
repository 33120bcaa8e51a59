"""The one authorizer that endpoints ask.

ACL rules are not built: with ACLs off every token may do everything, and
``ALLOW_ALL`` says so. Rules will bring another ``Authorizer`` behind the same
``Resolver``; no endpoint changes then.
"""

from __future__ import annotations

from typing import Protocol


class Authorizer(Protocol):
    """What a token may do; one method a permission."""

    @property
    def allows_all(self) -> bool:
        """No question will be refused, so results need no filtering."""
        ...

    def key_read(self, key: str) -> bool:
        """May read this key."""
        ...

    def key_write(self, key: str) -> bool:
        """May write this key."""
        ...

    def key_write_prefix(self, prefix: str) -> bool:
        """May write every key below this prefix."""
        ...

    def node_read(self, node: str) -> bool:
        """May see this node."""
        ...

    def node_write(self, node: str) -> bool:
        """May change this node."""
        ...

    def service_read(self, service: str) -> bool:
        """May see instances of this service."""
        ...

    def service_write(self, service: str) -> bool:
        """May change instances of this service."""
        ...

    def session_read(self, node: str) -> bool:
        """May see sessions of this node."""
        ...

    def session_write(self, node: str) -> bool:
        """May make and end sessions on this node."""
        ...


class AllowAll:
    """Every permission: what ACLs that are off mean."""

    allows_all = True

    def key_read(self, key: str) -> bool:
        """Yes."""
        return True

    key_write = key_read

    def key_write_prefix(self, prefix: str) -> bool:
        """Yes."""
        return True

    def node_read(self, node: str) -> bool:
        """Yes."""
        return True

    node_write = session_read = session_write = node_read

    def service_read(self, service: str) -> bool:
        """Yes."""
        return True

    service_write = service_read


ALLOW_ALL = AllowAll()


class Resolver(Protocol):
    """Finds the authorizer of a token."""

    def resolve(self, token: str) -> Authorizer:
        """Return what ``token`` may do; raises ``PermissionDeniedError``."""
        ...


class OpenResolver:
    """The resolver while ACLs are off: any token, everything."""

    def resolve(self, token: str) -> Authorizer:
        """Return ``ALLOW_ALL``; the token is accepted and ignored."""
        return ALLOW_ALL
