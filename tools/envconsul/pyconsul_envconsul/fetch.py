"""The first answers, asked one after the other without asyncio.

The start-up budget leaves no room for it; the views of ``watch`` come once the
child runs. Source: Consul documentation of the KV and catalog API.
"""

from __future__ import annotations

import json
import time
from binascii import a2b_base64

from pyconsul_client.errors import ApiError, ClientError, OptionsError, ProtocolError
from pyconsul_client.oneshot import request
from pyconsul_client.tool import exits
from pyconsul_client.tool.exits import ToolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from pyconsul_client.options import Options
    from pyconsul_client.tool.backoff import Backoff
    from pyconsul_client.tool.journal import Journal

    from .sources import Answer, Question, Source

TIMEOUT = 30.0
"""Longest silence of the agent, seconds."""
_SAFE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/"
)


def fetch_all(
    sources: Sequence[Source],
    options: Options,
    max_stale: float,
    backoff: Backoff,
    journal: Journal,
    waits: Callable[[], None],
) -> dict[Question, Answer]:
    """Return the answer to each distinct question; retries as ``backoff`` says.

    ``waits`` is called before each pause after a failure. Raises ToolError (14)
    when tries are used up.
    """
    found: dict[Question, Answer] = {}
    for source in sources:
        question = source.question
        while question not in found:
            try:
                found[question] = ask(question, options, max_stale)
                backoff.reset()
            except OptionsError as error:
                raise ToolError(exits.BAD_CONFIG, str(error)) from error
            except ClientError as error:
                pause = backoff.failed(_jitter())
                if pause is None:
                    text = f"{question[0]}: {error}"
                    raise ToolError(exits.FAILED, text) from error
                journal.warn(f"{question[0]}: {error} (retry in {pause:.3g}s)")
                waits()
                time.sleep(pause)
    return found


def ask(question: Question, options: Options, max_stale: float) -> Answer:
    """Return one answer; raises ClientError.

    A stale answer that is too old is asked for again, of the leader.
    """
    status, headers, body = _get(question, options, stale=max_stale > 0)
    if max_stale > 0 and not _fresh(headers, max_stale):
        status, _, body = _get(question, options, stale=False)
    is_key = question[0].startswith("/v1/kv/")
    if status == 404 and is_key:
        return []
    if status != 200:
        raise ApiError(status, body[:4096].decode("utf-8", "replace").strip())
    try:
        rows: list[dict[str, Any]] = json.loads(body) or []
        if is_key:
            return [(row["Key"], a2b_base64(row["Value"] or "")) for row in rows]
        return rows
    except (ValueError, KeyError, TypeError) as error:
        raise ProtocolError(f"unexpected answer: {error}") from error


def target(question: Question, *, stale: bool) -> str:
    """Return the request target, percent-encoded."""
    path, params = question
    pairs = [*params, ("stale", "")] if stale else list(params)
    query = "&".join(
        f"{name}={_encode(value)}" if value else name for name, value in pairs
    )
    return f"{_encode(path)}?{query}" if query else _encode(path)


def _get(
    question: Question, options: Options, *, stale: bool
) -> tuple[int, dict[str, str], bytes]:
    return request(
        "GET", target(question, stale=stale), options=options, timeout=TIMEOUT
    )


def _fresh(headers: dict[str, str], max_stale: float) -> bool:
    if headers.get("x-consul-knownleader", "true") == "false":
        return False
    contact = headers.get("x-consul-lastcontact", "0")
    return not contact.isdecimal() or int(contact[:18]) / 1000 <= max_stale


def _encode(text: str) -> str:
    return "".join(
        chr(byte) if byte in _SAFE else f"%{byte:02X}"
        for byte in text.encode("utf-8", "surrogateescape")
    )


def _jitter() -> float:
    import random

    return random.random()
