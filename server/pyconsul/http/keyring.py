"""``/v1/operator/keyring`` (part 3 of the reference, 3): the keys of gossip."""

from __future__ import annotations

from typing import Any

from pyconsul.http.decoding import BOOL, STRING, UINT, Shape, decode
from pyconsul.http.encoding import json_response
from pyconsul.http.params import parse_bool, token_of
from pyconsul.http.routing import Answer, Request, Response, Routes, then
from pyconsul.types.errors import BadRequestError, ConsulError
from pyconsul.types.messages import Reply
from pyconsul.types.operations import KeyringRequest, KeyringResponse

_RELAYS_MAX = 5
_KEY = Shape({"Key": STRING, "Token": STRING, "RelayFactor": UINT, "LocalOnly": BOOL})
_OPERATIONS = {"GET": "list", "POST": "install", "PUT": "use", "DELETE": "remove"}


def add_routes(routes: Routes) -> None:
    """Add the keyring route."""
    routes.add(
        "operator/keyring", GET=keyring, POST=keyring, PUT=keyring, DELETE=keyring
    )


def keyring(request: Request) -> Answer:
    """List the keys of all pools, or install, use or remove one."""
    operation = _OPERATIONS["GET" if request.method == "HEAD" else request.method]
    key = ""
    if operation != "list":
        prefix = "Bad request: Request decode failed: "
        key = decode(request.body, _KEY, prefix).get("Key", "")
    relays = _relay_factor(request.query.get("relay-factor"))
    local_only = _local_only(request.query.get("local-only"))
    if local_only and operation != "list":
        raise BadRequestError(
            "Bad request: Invalid use of local-only: local-only can only be set for "
            "list requests"
        )
    if not request.face.options.server:
        raise ConsulError("keyring operations must run against a server node")
    args = KeyringRequest(
        operation=operation,
        key=key,
        relay_factor=relays,
        local_only=local_only,
        token=token_of(request),
    )

    def done(reply: Reply) -> Response:
        answers: list[KeyringResponse] = reply.value
        found = problems(answers)
        if found:
            raise ConsulError(_listed(found))
        if operation == "list":
            return json_response(request, [_view(answer) for answer in answers])
        return Response()

    return then(request.face.caller.call("Internal.KeyringOperation", args), done)


def _local_only(text: str) -> bool:
    value = parse_bool(text) if text else False
    if value is None:
        raise BadRequestError(
            "Bad request: Error parsing local-only: strconv.ParseBool: "
            f'parsing "{text}": invalid syntax'
        )
    return value


def _relay_factor(text: str) -> int:
    if not text:
        return 0
    digits = text[1:] if text[0] in "+-" else text
    if not (digits.isascii() and digits.isdigit()):
        raise BadRequestError(
            "Bad request: Error parsing relay factor: strconv.Atoi: "
            f'parsing "{text}": invalid syntax'
        )
    if text[0] != "-" and int(digits[:9]) <= _RELAYS_MAX and len(digits) <= 9:
        return int(digits)
    raise BadRequestError(
        "Bad request: Invalid relay-factor: Relay factor must be in range: "
        f"[0, {_RELAYS_MAX}]"
    )


def problems(answers: list[KeyringResponse]) -> list[str]:
    """Return what failed: of each pool its error, then its members' texts."""
    found: list[str] = []
    for answer in answers:
        pool = "WAN" if answer.wan else f"{answer.datacenter} (LAN)"
        if answer.segment:
            pool += f" [{answer.segment}]"
        if answer.error:
            found.append(f"{pool} error: {answer.error}")
        messages = sorted((answer.messages or {}).items())
        found += [f"{node}: {text}" for node, text in messages]
    return found


def _listed(found: list[str]) -> str:
    noun = "error" if len(found) == 1 else "errors"
    lines = "".join(f"\t* {text}\n" for text in found)
    return f"{len(found)} {noun} occurred:\n{lines}\n"


def _view(answer: KeyringResponse) -> dict[str, Any]:
    view: dict[str, Any] = {
        "WAN": answer.wan,
        "Datacenter": answer.datacenter,
        "Segment": answer.segment,
    }
    if answer.messages:
        view["Messages"] = answer.messages
    view["Keys"] = dict(sorted((answer.keys or {}).items()))
    view["PrimaryKeys"] = dict(sorted((answer.primary_keys or {}).items()))
    view["NumNodes"] = answer.num_nodes
    if answer.error:
        view["Error"] = answer.error
    return view
