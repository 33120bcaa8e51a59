"""The routes of this room, in one place."""

from __future__ import annotations

from pyconsul.http import (
    acl_off,
    catalog,
    config_entries,
    health,
    kv,
    session,
    status,
    txn,
)
from pyconsul.http.face import HttpOptions, index_routes
from pyconsul.http.routing import Routes


def build_routes(options: HttpOptions, *, ui_path: str = "") -> Routes:
    """Return a table of all but the agent's routes, which it adds itself."""
    routes = Routes()
    index_routes(routes, ui_path)
    kv.add_routes(routes, max_value=options.kv_max_value_size)
    largest = max(options.txn_max_req_len, options.kv_max_value_size)
    txn.add_routes(routes, max_body=largest)
    session.add_routes(routes)
    catalog.add_routes(routes)
    config_entries.add_routes(routes)
    health.add_routes(routes)
    status.add_routes(routes)
    if not options.acl_enabled:
        acl_off.add_routes(routes)
    return routes
