"""Tags in the memberlist's meta: byte 255 and a map (``wire-gossip.md`` 8.7)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, cast

from pyconsul.serf.settings import META_BYTES_MAX
from pyconsul.types import gomsgpack
from pyconsul.types.errors import TooLargeError

MAGIC: Final = 255


def encode_tags(tags: Mapping[str, str]) -> bytes:
    """Return the meta; raises ``TooLargeError`` above 512 bytes."""
    meta = bytes((MAGIC,)) + gomsgpack.pack(dict(sorted(tags.items())))
    if len(meta) > META_BYTES_MAX:
        raise TooLargeError(
            f"Encoded length of tags exceeds limit of {META_BYTES_MAX} bytes"
        )
    return meta


@lru_cache(maxsize=4096)
def decode_tags(meta: bytes) -> Mapping[str, str]:
    """Return the tags; not to be changed, equal metas share them.

    Without the magic byte the whole meta is the ``role``; what cannot be read
    gives no tags.
    """
    if not meta or meta[0] != MAGIC:
        return {"role": meta.decode("utf-8", "surrogateescape")}
    try:
        plain: Any = gomsgpack.unpack(meta[1:])
    except (gomsgpack.MsgpackError, RecursionError):
        return {}
    if not isinstance(plain, dict):
        return {}
    return {
        key: value
        for key, value in cast(dict[Any, Any], plain).items()
        if isinstance(key, str) and isinstance(value, str)
    }
