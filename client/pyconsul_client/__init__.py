"""A typed async Consul client with blocking-query views.

Importing the package imports nothing else; each name is loaded when first used,
so that a short-lived command pays only for what it needs.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .caller import Found, Read
    from .client import Client
    from .errors import (
        ApiError,
        ClientError,
        LockConflictError,
        LockLostError,
        LockTimeoutError,
        TransportError,
    )
    from .locks import Lock, LockRules
    from .queries import Kind, Queries, Query
    from .view import Rules, View, ViewCore, Views

__all__ = [
    "ApiError",
    "Client",
    "ClientError",
    "Found",
    "Kind",
    "Lock",
    "LockConflictError",
    "LockLostError",
    "LockRules",
    "LockTimeoutError",
    "Queries",
    "Query",
    "Read",
    "Rules",
    "TransportError",
    "View",
    "ViewCore",
    "Views",
]

_HOMES = {
    "ApiError": "errors",
    "Client": "client",
    "ClientError": "errors",
    "Found": "caller",
    "Kind": "queries",
    "Lock": "locks",
    "LockConflictError": "errors",
    "LockLostError": "errors",
    "LockRules": "locks",
    "LockTimeoutError": "errors",
    "Queries": "queries",
    "Query": "queries",
    "Read": "caller",
    "Rules": "view",
    "TransportError": "errors",
    "View": "view",
    "ViewCore": "view",
    "Views": "view",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
