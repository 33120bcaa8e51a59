"""A folder of files below the UI's path, in place of the own pages (``ui_config.dir``).

What is no file is answered with ``index.html``: pages that make their own paths
want it so. Links that lead out of the folder are not followed.
"""

from __future__ import annotations

import asyncio
import mimetypes
import os
from functools import partial

from pyconsul.http.routing import Answer, Request, Response, Routes, header_line

FILE_BYTES_MAX = 32 << 20
"""A larger file is not served."""

_INDEX = "index.html"
_NO_SNIFFING = header_line("X-Content-Type-Options", "nosniff")


def add_routes(routes: Routes, path: str, folder: str) -> None:
    """Serve ``folder`` below ``path`` (which ends in a slash)."""
    files = partial(serve, os.path.realpath(folder))
    routes.add(path, GET=files, HEAD=files)


def serve(folder: str, request: Request) -> Answer:
    """Return a file, read beside the loop."""
    wanted = request.argument
    return asyncio.ensure_future(asyncio.to_thread(_read, folder, wanted))


def _read(folder: str, wanted: str) -> Response:
    for name in (wanted, _INDEX):
        path = os.path.realpath(os.path.join(folder, name))
        if not path.startswith(folder + os.sep) or not os.path.isfile(path):
            continue
        try:
            with open(path, "rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except OSError:
            continue
        if len(data) > FILE_BYTES_MAX:
            return Response(413)
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        if kind.startswith("text/"):
            kind += "; charset=utf-8"
        return Response(200, data, header_line("Content-Type", kind), _NO_SNIFFING)
    return Response(404)
