"""Where the status is served, and who may see rendered texts there. No I/O."""

from __future__ import annotations

from pyconsul_template.schema import ConfigError

NO, LOCAL, ALL = "no", "local", "all"
"""Rendered texts are not shown, shown to this machine, or to whoever asks."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port; raises ``ConfigError``."""
    host, colon, port = address.rpartition(":")
    if not colon or not (port.isascii() and port.isdecimal() and int(port) < 65536):
        raise ConfigError(f"status_addr: {address!r} is not HOST:PORT or unix:/PATH")
    return host.strip("[]") or "127.0.0.1", int(port)


def socket_path(address: str) -> str:
    """Return the path of a ``unix:`` address, empty for any other."""
    if not address.startswith("unix:"):
        return ""
    path = address.removeprefix("unix:")
    return "/" + path.lstrip("/") if path.startswith("//") else path


def shown_to(address: str, wanted: bool | None) -> str:
    """Return who sees rendered texts: ``NO``, ``LOCAL`` or ``ALL``.

    They may hold secrets: unless it was said, only an address that this machine
    alone reaches shows them.
    """
    if not address or wanted is False:
        return NO
    if wanted:
        return ALL
    if socket_path(address):
        return LOCAL
    try:
        host, _ = split_address(address)
    except ConfigError:
        return NO  # Whoever listens there will say what is wrong.
    return LOCAL if _is_here(host) else NO


def may_read(host: str, shown: str) -> bool:
    """Whether a request that names this ``Host`` sees rendered texts.

    A web page can have its own name lead to our loopback address, but then that
    name is what the browser sends.
    """
    if shown != LOCAL or not host:
        return shown != NO
    name = host.rpartition(":")[0] if not host.endswith("]") else host
    return _is_here((name or host).strip("[]")) or _is_here(host)


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    import ipaddress  # Not at every start.

    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
