"""Bodies too large for memory: they wait in a file without a name."""

from __future__ import annotations

import tempfile
from typing import BinaryIO, cast

from pyconsul.http.routing import Request


def spool(request: Request, data: bytes) -> None:
    """Add a piece of the body to the request's file; raises ``OSError``."""
    if request.upload is None:
        file = tempfile.TemporaryFile()  # noqa: SIM115 closed by who takes it
        request.upload = cast("BinaryIO", file)
    request.upload.write(data)


def close_upload(request: Request) -> None:
    """Drop a body that nobody took."""
    if request.upload is not None:
        request.upload.close()
        request.upload = None
