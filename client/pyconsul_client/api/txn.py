"""Transactions: ``PUT /v1/txn``."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ..caller import Caller
from ..errors import ProtocolError
from ..records import TxnResponse
from ..responses import error_of

_RESPONSE = msgspec.json.Decoder(TxnResponse)


def kv_op(verb: str, key: str, value: bytes | None = None, **fields: Any) -> Any:
    """Return a KV operation: ``set``, ``cas``, ``lock``, ``get``, ``delete``, ...

    ``fields`` are further members by wire name: ``Index``, ``Session``, ``Flags``.
    """
    body: dict[str, Any] = {"Verb": verb, "Key": key, **fields}
    if value is not None:
        body["Value"] = b64encode(value).decode()
    return {"KV": body}


class TxnApi:
    """Operations applied all together or not at all."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    async def apply(
        self, operations: Sequence[Mapping[str, Any]], dc: str = ""
    ) -> TxnResponse:
        """Apply operations; ``errors`` say why nothing was applied.

        Raises ApiError for a request that could not be tried.
        """
        body = msgspec.json.encode(operations)
        response = await self._caller.send("PUT", "/v1/txn", body=body, dc=dc)
        if response.status not in (200, 409):
            raise error_of(response)
        try:
            return _RESPONSE.decode(response.body)
        except msgspec.MsgspecError as error:
            raise ProtocolError(f"unexpected answer: {error}") from error
