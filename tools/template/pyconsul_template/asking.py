"""Asking a running instance for its status."""

from __future__ import annotations

import http.client
import socket

import msgspec

from pyconsul_template.addresses import socket_path, split_address
from pyconsul_template.status import Status

TIMEOUT_S = 5.0
BODY_BYTES_MAX = 64 * 1024 * 1024


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        """Connect to the socket instead of a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)


def fetch_status(address: str) -> Status:
    """Return the status of the instance at ``-status-addr``; raises OSError."""
    if path := socket_path(address):
        connection: http.client.HTTPConnection = _UnixConnection(path)
    else:
        host, port = split_address(address)
        connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        response = connection.getresponse()
        body = response.read(BODY_BYTES_MAX)
        if response.status != 200:
            raise OSError(f"answered {response.status}")
        return msgspec.json.decode(body, type=Status)
    except (http.client.HTTPException, msgspec.MsgspecError) as error:
        raise OSError(f"not an instance of ours: {error}") from error
    finally:
        connection.close()
