"""The routes of this room, in one place."""

from __future__ import annotations

from pyconsul.http import (
    acl_off,
    catalog,
    config_entries,
    connect,
    coordinate,
    health,
    internal_mesh,
    keyring,
    kv,
    operator,
    query,
    session,
    status,
    txn,
    ui_data,
    ui_files,
    ui_page,
)
from pyconsul.http.face import HttpOptions, index_routes
from pyconsul.http.routing import Routes


def build_routes(
    options: HttpOptions, *, ui_path: str = "", ui_folder: str = ""
) -> Routes:
    """Return a table of all but the agent's routes, which it adds itself."""
    routes = Routes()
    index_routes(routes, ui_path)
    kv.add_routes(routes, max_value=options.kv_max_value_size)
    largest = max(options.txn_max_req_len, options.kv_max_value_size)
    txn.add_routes(routes, max_body=largest)
    session.add_routes(routes)
    catalog.add_routes(routes)
    config_entries.add_routes(routes)
    connect.add_routes(routes)
    health.add_routes(routes)
    status.add_routes(routes)
    coordinate.add_routes(routes, disabled=options.disable_coordinates)
    operator.add_routes(routes)
    keyring.add_routes(routes)
    query.add_routes(routes)
    ui_data.add_routes(routes)
    internal_mesh.add_routes(routes)
    if ui_path and ui_folder:
        ui_files.add_routes(routes, ui_path, ui_folder)
    elif ui_path:
        ui_page.add_routes(routes, ui_path)
    if not options.acl_enabled:
        acl_off.add_routes(routes)
    return routes
