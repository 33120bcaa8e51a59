"""Key queries: what a node answers, and how answers are gathered (8.6)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import Final, Literal, cast, get_args

import msgspec

from pyconsul.gossip.keyring import Keyring, KeyringError
from pyconsul.serf import codec
from pyconsul.serf.messages import KeyAnswer, KeyRequest, Kind
from pyconsul.types.errors import BadRequestError
from pyconsul.types.gomsgpack import MsgpackError

Operation = Literal["list", "install", "use", "remove"]

QUERY_NAMES: Final[dict[Operation, str]] = {
    "list": "_serf_list-keys",
    "install": "_serf_install-key",
    "use": "_serf_use-key",
    "remove": "_serf_remove-key",
}
OPERATIONS: Final[dict[str, Operation]] = {
    name: operation for operation, name in QUERY_NAMES.items()
}
_KEYS_SHOWN_MAX: Final = 40
"""No more keys, of 25 bytes at least, fit into an answer of 1024 bytes."""
_ALPHABET = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


class KeyResponse(msgspec.Struct, frozen=True, kw_only=True):
    """What a key operation came to; keys are base64 text.

    ``messages`` is by node, ``keys`` and ``primary_keys`` count nodes by key;
    ``error`` is empty or the line of 8.6 (``1/3 nodes reported failure``).
    """

    num_nodes: int = 0
    num_responses: int = 0
    num_errors: int = 0
    messages: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    keys: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    primary_keys: dict[str, int] = msgspec.field(default_factory=dict[str, int])
    error: str = ""


def key_query(operation: str, key: str) -> tuple[str, bytes]:
    """Return name and payload of the query. Raises ``BadRequestError``."""
    if operation not in get_args(Operation):
        raise BadRequestError(f"unknown key operation: {operation}")
    raw = b"" if operation == "list" else decode_key(key)
    return QUERY_NAMES[cast(Operation, operation)], encode_request(raw)


def encode_request(key: bytes) -> bytes:
    """Return a key query's payload; Go writes an absent key as empty, not nil."""
    packed = codec.encode_typed(Kind.KEY_REQUEST, KeyRequest(key=key))
    return packed if key else packed[:-1] + b"\xa0"


def decode_key(text: str) -> bytes:
    """Read base64 as Go does, with its complaint. Raises ``BadRequestError``."""
    text = text.replace("\n", "").replace("\r", "")
    body = text.rstrip("=")
    for at, char in enumerate(body):
        if char not in _ALPHABET:
            raise BadRequestError(f"illegal base64 data at input byte {at}")
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        at = len(body) // 4 * 4
        raise BadRequestError(f"illegal base64 data at input byte {at}") from None


def answer(operation: Operation, payload: bytes, keyring: Keyring) -> KeyAnswer:
    """Carry out a key query on our ring."""
    if operation == "list":
        return _listing(keyring)
    if not keyring:
        return KeyAnswer(message="No keyring to modify (encryption not enabled)")
    try:
        key = codec.decode_typed(payload, Kind.KEY_REQUEST, KeyRequest).key
        if operation == "install":
            keyring.add(key)
        elif operation == "use":
            keyring.use(key)
        else:
            keyring.remove(key)
    except (KeyringError, MsgpackError) as error:
        return KeyAnswer(message=str(error))
    return KeyAnswer(result=True)


def shortened(full: KeyAnswer) -> Iterator[KeyAnswer]:
    """Yield the answer, then ever shorter lists, for the size limit."""
    yield full
    count = len(full.keys)
    for shown in range(min(count - 1, _KEYS_SHOWN_MAX), -1, -1):
        message = f"truncated key list response, showing first {shown} of {count} keys"
        yield KeyAnswer(
            result=full.result,
            message=message,
            keys=full.keys[:shown],
            primary_key=full.primary_key,
        )


def _listing(keyring: Keyring) -> KeyAnswer:
    if not keyring:
        return KeyAnswer(message="Keyring is empty (encryption not enabled)")
    keys = [base64.b64encode(key).decode() for key in keyring.keys]
    return KeyAnswer(result=True, keys=keys, primary_key=keys[0])


class KeyTally:
    """Gathers the answers of the nodes."""

    def __init__(self, num_nodes: int) -> None:
        """``num_nodes``: how many are asked."""
        self._num_nodes = num_nodes
        self._num_responses = 0
        self._num_errors = 0
        self._messages: dict[str, str] = {}
        self._keys: dict[str, int] = {}
        self._primary_keys: dict[str, int] = {}

    @property
    def is_complete(self) -> bool:
        """Whether everybody answered."""
        return self._num_responses >= self._num_nodes

    def add(self, node: str, payload: bytes) -> None:
        """Count a node's answer."""
        self._num_responses += 1
        if not payload or payload[0] != Kind.KEY_RESPONSE:
            self._fail(node, f"Invalid key query response type: {list(payload)}")
            return
        try:
            found = codec.decode_typed(payload, Kind.KEY_RESPONSE, KeyAnswer)
        except MsgpackError as error:
            self._fail(node, f"Failed to decode key query response: {error}")
            return
        if not found.result:
            self._fail(node, found.message)
        elif found.message:
            self._messages[node] = found.message  # a truncated list
        for key in found.keys:
            self._keys[key] = self._keys.get(key, 0) + 1
        if found.primary_key:
            count = self._primary_keys.get(found.primary_key, 0)
            self._primary_keys[found.primary_key] = count + 1

    def response(self) -> KeyResponse:
        """Return what came, with the line of 8.6 when something is wrong."""
        error = ""
        if self._num_errors:
            error = f"{self._num_errors}/{self._num_nodes} nodes reported failure"
        elif self._num_responses != self._num_nodes:
            error = f"{self._num_responses}/{self._num_nodes} nodes reported success"
        return KeyResponse(
            num_nodes=self._num_nodes,
            num_responses=self._num_responses,
            num_errors=self._num_errors,
            messages=self._messages,
            keys=self._keys,
            primary_keys=self._primary_keys,
            error=error,
        )

    def _fail(self, node: str, message: str) -> None:
        self._num_errors += 1
        self._messages[node] = message
