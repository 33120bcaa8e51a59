"""Layers of a UDP packet (``wire-gossip.md`` 2).

From outside: label, encryption, CRC, compress, compound, message; all but the
message are optional, and compress and compound may hold each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

from pyconsul.gossip import lzw
from pyconsul.gossip.codec import decode_compress, encode_compress
from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import DecodeError, MessageType, Settings

PACKET_BYTES_MAX = 65536
DECOMPRESSED_BYTES_MAX = 1 << 20
NESTING_MAX = 4
COMPOUND_PARTS_MAX = 255
COMPOUND_HEADER_BYTES = 2
COMPOUND_PART_BYTES = 2
CRC_BYTES = 5
LABEL_BYTES_MAX = 255

_COMPOUND = MessageType.COMPOUND.value
_COMPRESS = MessageType.COMPRESS.value
_CRC = MessageType.CRC.value
_LABEL = MessageType.LABEL.value
_WRAPPERS = frozenset({_COMPOUND, _COMPRESS, _CRC})


def label_header(label: str) -> bytes:
    """Return what begins a labelled packet or stream; nothing without label."""
    if not label:
        return b""
    data = label.encode()
    return bytes((_LABEL, len(data))) + data


def open_packet(data: bytes, keyring: Keyring, settings: Settings) -> list[bytes]:
    """Return the messages of a packet, type byte first.

    The complete leading parts of a truncated compound are returned. Raises
    ``DecodeError``.
    """
    if not data:
        raise DecodeError("empty packet")
    label = settings.label
    if data[0] == _LABEL or label:
        header = label_header(label)
        if not label or not data.startswith(header):
            raise DecodeError("discarding packet with unacceptable label")
        data = data[len(header) :]
    if keyring:
        try:
            data = keyring.decrypt(data, label.encode())
        except DecodeError:
            if settings.verify_incoming:
                raise
    if not data:
        raise DecodeError("empty packet")
    if data[0] not in _WRAPPERS:
        return [data]
    messages: list[bytes] = []
    _unwrap(data, messages, NESTING_MAX)
    return messages


def _unwrap(data: bytes, messages: list[bytes], depth: int) -> None:
    if not data:
        raise DecodeError("empty message")
    kind = data[0]
    if kind not in _WRAPPERS:
        messages.append(data)
        return
    if depth == 0:
        raise DecodeError("packet is nested too deeply")
    if kind == _COMPOUND:
        for part in split_compound(data):
            if part and part[0] not in _WRAPPERS:
                messages.append(part)
            else:
                _unwrap(part, messages, depth - 1)
    elif kind == _COMPRESS:
        packed = decode_compress(data[1:])
        _unwrap(lzw.decompress(packed, DECOMPRESSED_BYTES_MAX), messages, depth - 1)
    else:
        if len(data) < CRC_BYTES:
            raise DecodeError("truncated CRC")
        inner = data[CRC_BYTES:]
        if crc32(inner) != int.from_bytes(data[1:CRC_BYTES], "big"):
            raise DecodeError("invalid checksum for UDP packet")
        _unwrap(inner, messages, depth - 1)


def split_compound(data: bytes) -> list[bytes]:
    """Return the complete parts of a compound message."""
    if len(data) < COMPOUND_HEADER_BYTES:
        raise DecodeError("missing compound length byte")
    start = COMPOUND_HEADER_BYTES + data[1] * COMPOUND_PART_BYTES
    if len(data) < start:
        raise DecodeError("truncated compound lengths")
    parts: list[bytes] = []
    for at in range(COMPOUND_HEADER_BYTES, start, COMPOUND_PART_BYTES):
        end = start + (data[at] << 8 | data[at + 1])
        if end > len(data):
            break
        parts.append(data[start:end])
        start = end
    return parts


def make_compound(messages: Sequence[bytes]) -> bytes:
    """Join up to 255 messages of up to 65535 bytes; one stays as it is."""
    if len(messages) == 1:
        return messages[0]
    lengths = b"".join([len(message).to_bytes(2, "big") for message in messages])
    return bytes((_COMPOUND, len(messages))) + lengths + b"".join(messages)


def compressed(message: bytes) -> bytes:
    """Return the message in its compressed form if that is shorter."""
    wrapped = encode_compress(lzw.compress(message))
    return wrapped if len(wrapped) < len(message) else message


def seal_packet(
    message: bytes, keyring: Keyring, settings: Settings, *, crc: bool = False
) -> bytes:
    """Put the outer layers around a message or compound."""
    if settings.compression:
        message = compressed(message)
    if crc:
        message = b"\x0c" + crc32(message).to_bytes(4, "big") + message
    label = settings.label
    if keyring and settings.verify_outgoing:
        message = keyring.encrypt(message, label.encode())
    return label_header(label) + message if label else message
