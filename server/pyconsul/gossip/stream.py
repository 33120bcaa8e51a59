"""Streams of memberlist: one message each way (``wire-gossip.md`` 5).

The side that dials writes the label header; the side that answers writes none
but authenticates the label all the same. What is not encrypted has no length:
its end shows in its msgpack.
"""

from __future__ import annotations

from typing import Any, cast

import msgpack as _untyped  # pyright: ignore[reportMissingTypeStubs]

from pyconsul.gossip import lzw
from pyconsul.gossip.codec import decode_compress, decode_header, encode_error
from pyconsul.gossip.keyring import OVERHEAD_BYTES, Keyring
from pyconsul.gossip.messages import (
    MESSAGE_BYTES_MAX,
    DecodeError,
    MessageType,
    Settings,
)
from pyconsul.gossip.packet import compressed, label_header

msgpack: Any = _untyped  # it has no type stubs

LENGTH_HEADER_BYTES = 5
_BLOCK_BYTES = 16  # version 0 pads to whole blocks
_STREAM_BYTES_MAX = MESSAGE_BYTES_MAX + 4096

_ENCRYPT = MessageType.ENCRYPT.value
_COMPRESS = MessageType.COMPRESS.value
_LABEL = MessageType.LABEL.value
_ONE_VALUE = frozenset(
    {MessageType.PING, MessageType.ACK, MessageType.ERROR, MessageType.COMPRESS}
)


class StreamError(DecodeError):
    """A stream is refused; ``answer`` is what to write back, may be empty."""

    def __init__(self, text: str, answer: bytes = b"") -> None:
        super().__init__(text)
        self.answer = answer


def seal_stream(
    message: bytes, keyring: Keyring, settings: Settings, *, dialing: bool
) -> bytes:
    """Return the bytes to write for a message."""
    if settings.compression:
        message = compressed(message)
    label = settings.label
    if keyring and settings.verify_outgoing:
        size = len(message) + OVERHEAD_BYTES
        header = bytes((_ENCRYPT,)) + size.to_bytes(4, "big")
        message = header + keyring.encrypt(message, header + label.encode())
    return label_header(label) + message if dialing else message


class StreamReader:
    """Collects one message of a stream; ``reply`` on the side that dialed."""

    def __init__(
        self,
        keyring: Keyring,
        label: str = "",
        *,
        reply: bool = False,
        verify_incoming: bool = True,
        verify_outgoing: bool = True,
    ) -> None:
        self._keyring = keyring
        self._settings = Settings(label=label, verify_outgoing=verify_outgoing)
        self._reply = reply
        self._verify_incoming = verify_incoming
        self._buffer = bytearray()
        self._label_read = False
        self._scanner: _Scanner | None = None
        self._scanned = 0

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; return the opened message once it is complete.

        Opened: without label, decrypted, decompressed; the type byte comes
        first. What follows the message is ignored. Raises ``StreamError``.
        """
        if len(self._buffer) + len(data) > _STREAM_BYTES_MAX:
            raise self._refusal(f"message is larger than {MESSAGE_BYTES_MAX} bytes")
        self._buffer += data
        try:
            return self._advance()
        except StreamError:
            raise
        except DecodeError as error:
            raise self._refusal(str(error)) from error

    def _refusal(self, text: str) -> StreamError:
        if self._reply:
            return StreamError(text)  # the exchange is over; nobody reads more
        answer = encode_error(text)
        return StreamError(
            text, seal_stream(answer, self._keyring, self._settings, dialing=False)
        )

    def _advance(self) -> bytes | None:
        buffer = self._buffer
        if not buffer or not (self._label_read or self._read_label()):
            return None
        if not buffer:
            return None
        if buffer[0] == _ENCRYPT:
            return self._decrypt()
        if self._keyring and self._verify_incoming:
            raise DecodeError(
                "Encryption is configured but remote state is not encrypted"
            )
        if self._scanner is None:
            self._scanner = _Scanner(buffer[0])
            self._scanned = 1
        end = self._scanner.feed(bytes(buffer[self._scanned :]))
        self._scanned = len(buffer)
        return None if end is None else _decompressed(bytes(buffer[: end + 1]))

    def _read_label(self) -> bool:
        """Check and drop the label header; whether it was complete."""
        buffer = self._buffer
        label = "" if self._reply else self._settings.label
        if buffer[0] != _LABEL:
            if label:
                raise DecodeError("discarding stream with unacceptable label")
            self._label_read = True
            return True
        header = label_header(label)
        if not label or not header.startswith(bytes(buffer[: len(header)])):
            raise DecodeError("discarding stream with unacceptable label")
        if len(buffer) < len(header):
            return False
        del buffer[: len(header)]
        self._label_read = True
        return True

    def _decrypt(self) -> bytes | None:
        if not self._keyring:
            raise DecodeError(
                "Remote state is encrypted and encryption is not configured"
            )
        buffer = self._buffer
        if len(buffer) < LENGTH_HEADER_BYTES:
            return None
        header = bytes(buffer[:LENGTH_HEADER_BYTES])
        size = int.from_bytes(header[1:], "big")
        if size > MESSAGE_BYTES_MAX + OVERHEAD_BYTES + _BLOCK_BYTES:
            raise DecodeError(f"Remote node state is larger than limit ({size} bytes)")
        end = LENGTH_HEADER_BYTES + size
        if len(buffer) < end:
            return None
        associated = header + self._settings.label.encode()
        plain = self._keyring.decrypt(
            bytes(buffer[LENGTH_HEADER_BYTES:end]), associated
        )
        return _decompressed(plain)


def _decompressed(message: bytes) -> bytes:
    if message[:1] == b"\x09":
        message = lzw.decompress(decode_compress(message[1:]), MESSAGE_BYTES_MAX)
    if not message:
        raise DecodeError("empty message")
    return message


class _Scanner:
    """Finds where a message ends that comes without a length."""

    def __init__(self, kind: int) -> None:
        self._unpacker = msgpack.Unpacker(
            raw=True, strict_map_key=False, max_buffer_size=_STREAM_BYTES_MAX
        )
        self._start = bytearray()  # until the header is decoded
        self._fed = 0
        self._values = 1  # still to be skipped
        self._rest = 0  # bytes after the last value
        self._wants_header = kind in (MessageType.PUSH_PULL, MessageType.USER)
        if not self._wants_header and kind not in _ONE_VALUE:
            raise DecodeError(f"unknown message type {kind} in a stream")

    def feed(self, data: bytes) -> int | None:
        """Take bytes of the body; return the body's length once it is here."""
        self._fed += len(data)
        if self._wants_header:
            self._start += data
        if self._values:
            self._unpacker.feed(data)
        while self._values:
            try:
                self._unpacker.skip()
            except msgpack.OutOfData:
                return None
            except (ValueError, msgpack.exceptions.UnpackException) as error:
                raise DecodeError(f"msgpack decode error: {error}") from error
            self._values -= 1
            if self._wants_header:
                self._wants_header = False
                end = cast(int, self._unpacker.tell())
                header = decode_header(bytes(self._start[:end]))
                self._values = header.nodes
                self._rest = header.user_state_len or header.user_msg_len
                self._start.clear()
                if self._rest > MESSAGE_BYTES_MAX:
                    raise DecodeError(
                        f"message is larger than {MESSAGE_BYTES_MAX} bytes"
                    )
        end = cast(int, self._unpacker.tell()) + self._rest
        return end if self._fed >= end else None
