"""The bytes of a configuration entry (``wire-raft.md`` section 1)."""

from __future__ import annotations

from typing import Any, cast

import msgpack  # pyright: ignore[reportMissingTypeStubs]

from pyconsul.raft.messages import Configuration, ConfigurationError, Peer

_MAX_BYTES = 1 << 20
_packer: Any = cast(Any, msgpack)


def encode_configuration(configuration: Configuration) -> bytes:
    """Return the msgpack map real servers write, keys sorted."""
    servers = [
        {"Address": s.address, "ID": s.id, "Suffrage": s.suffrage}
        for s in configuration.servers
    ]
    return cast(bytes, _packer.packb({"Servers": servers}, use_bin_type=False))


def decode_configuration(data: bytes) -> Configuration:
    """Read a configuration entry; raises ``ConfigurationError``."""
    if len(data) > _MAX_BYTES:
        raise ConfigurationError("configuration entry is too large")
    try:
        raw = cast(
            dict[str, Any],
            _packer.unpackb(data, raw=False, unicode_errors="surrogateescape"),
        )
        servers = cast(list[dict[str, Any]], raw.get("Servers") or [])
        return Configuration(
            servers=tuple(
                Peer(
                    id=str(s.get("ID", "")),
                    address=str(s.get("Address", "")),
                    suffrage=int(s.get("Suffrage", 0)),
                )
                for s in servers
            )
        )
    except (ValueError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"configuration entry: {error}") from error
