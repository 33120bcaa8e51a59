"""Streams of memberlist: one message each way (``wire-gossip.md`` 5)."""

from __future__ import annotations

from pyconsul.gossip.keyring import Keyring
from pyconsul.gossip.messages import DecodeError


class StreamError(DecodeError):
    """A stream is refused; ``answer`` is what to write back, may be empty."""

    def __init__(self, text: str, answer: bytes = b"") -> None:
        super().__init__(text)
        self.answer = answer


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
    ) -> None: ...

    def feed(self, data: bytes) -> bytes | None:
        """Take bytes; return the opened message once it is complete.

        Opened: without label, decrypted, decompressed. Raises ``StreamError``.
        """
        ...
