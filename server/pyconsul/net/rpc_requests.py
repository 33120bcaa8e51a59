"""Arguments of RPC calls, to the wire and from it (``wire-rpc.md`` 2 and 5).

Reads leave out the options that are not set, which any reader takes for zero;
writes are written whole, as Go does.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from msgspec.structs import replace

from pyconsul.net.rpc_values import (
    as_list,
    as_map,
    as_text,
    pack_parts,
    single_floats,
)
from pyconsul.state.config_entries import decode_record, wire_entry
from pyconsul.types.config_entries import ConfigEntryQuery, ConfigEntryRequest
from pyconsul.types.coordinates import CoordinateUpdateRequest
from pyconsul.types.discovery import DiscoveryChainRequest
from pyconsul.types.errors import BadRequestError
from pyconsul.types.gomsgpack import Plain, from_plain, to_plain
from pyconsul.types.intentions import IntentionListRequest, IntentionQueryRequest
from pyconsul.types.mesh import (
    ConfigEntryListAllRequest,
    FederationStateQuery,
    ServiceConfigRequest,
)
from pyconsul.types.messages import (
    ChecksInStateRequest,
    DCSpecificRequest,
    DeregisterRequest,
    EmptyRequest,
    KeyListRequest,
    KeyRequest,
    KVSRequest,
    NodeSpecificRequest,
    RegisterRequest,
    ServiceSpecificRequest,
    SessionRequest,
    SessionSpecificRequest,
    TxnReadRequest,
    TxnRequest,
)
from pyconsul.types.operations import (
    AutopilotSetConfigRequest,
    EventFireRequest,
    KeyringRequest,
    RaftRemovePeerRequest,
    RaftTransferLeaderRequest,
)
from pyconsul.types.passed import PASSED, PassedRequest
from pyconsul.types.plain_entries import entry_from_plain, entry_to_plain
from pyconsul.types.queries import (
    PreparedQueryExecuteRemoteRequest,
    PreparedQueryExecuteRequest,
    PreparedQueryRequest,
    PreparedQuerySpecificRequest,
)
from pyconsul.types.tokens import ACLTokenBatchGetRequest, ACLTokenGetRequest

Write = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Arguments:
    """How the arguments of a method cross the wire, and what they are here."""

    kind: type[Any]
    write: Write
    read: Callable[[Any], Any]


# What is ours alone.
_NOT_FIELDS = frozenset(("passing_only",))


def _set_fields(kind: type[msgspec.Struct]) -> Write:
    """Return the writer of the fields that are not zero."""
    fields = [
        (field.encode_name, field.name, field.default)
        for field in msgspec.structs.fields(kind)
        if field.name not in _NOT_FIELDS
    ]

    def write(args: Any) -> Plain:
        plain: Plain = {}
        for wire, name, zero in fields:
            value = getattr(args, name)
            if value != zero:
                plain[wire] = _plain(value)
        return plain

    return write


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return to_plain(value)
    if isinstance(value, list):
        return [_plain(item) for item in cast("list[Any]", value)]
    return value


def _reader(kind: type[msgspec.Struct]) -> Callable[[Any], Any]:
    return lambda plain: from_plain(as_map(plain, kind.__name__), kind)


def _query(kind: type[msgspec.Struct]) -> Arguments:
    return Arguments(kind, _set_fields(kind), _reader(kind))


def _whole(kind: type[msgspec.Struct]) -> Arguments:
    return Arguments(kind, to_plain, _reader(kind))


# -- key-value (hot)


def _kvs_to_plain(args: KVSRequest) -> Plain:
    return {
        "Datacenter": args.datacenter,
        "DirEnt": entry_to_plain(args.dir_ent),
        "Op": args.op,
        "Token": args.token,
    }


def _kvs_from_plain(plain: Any) -> KVSRequest:
    held = as_map(plain, "KVSRequest")
    get = held.get
    datacenter, op, token = get("Datacenter", ""), get("Op", ""), get("Token", "")
    if datacenter.__class__ is op.__class__ is token.__class__ is str:
        entry = entry_from_plain(get("DirEnt") or {})
        return KVSRequest(datacenter=datacenter, op=op, token=token, dir_ent=entry)
    return from_plain(held, KVSRequest)  # says what is wrong, or bears nil


# -- services


def _service_from_plain(plain: Any) -> ServiceSpecificRequest:
    held = as_map(plain, "ServiceSpecificRequest")
    args = from_plain(held, ServiceSpecificRequest)
    tag = as_text(held.get("ServiceTag"), "ServiceTag")
    if tag and not args.service_tags:
        return replace(args, service_tags=[tag])  # from before 1.3
    return args


_KIND = re.compile(r"[a-z-]*")


def _service_dump_from_plain(plain: Any) -> DCSpecificRequest:
    """Read ``ServiceDumpRequest``; a wanted kind becomes a filter."""
    held = as_map(plain, "ServiceDumpRequest")
    args = from_plain(held, DCSpecificRequest)
    if not held.get("UseServiceKind"):
        return args
    kind = as_text(held.get("ServiceKind"), "ServiceKind")
    if not _KIND.fullmatch(kind):
        raise BadRequestError(f"Invalid service kind: {kind!r}")
    wanted = f'Service.Kind == "{kind}"'
    return replace(
        args, filter=f"({args.filter}) and {wanted}" if args.filter else wanted
    )


# -- sessions


_session_fields = _set_fields(SessionSpecificRequest)


def _session_to_plain(args: SessionSpecificRequest) -> Plain:
    plain = _session_fields(args)
    # Which of the two is read depends on the version.
    plain["Session"] = args.session_id
    return plain


def _session_from_plain(plain: Any) -> SessionSpecificRequest:
    held = as_map(plain, "SessionSpecificRequest")
    args = from_plain(held, SessionSpecificRequest)
    if args.session_id:
        return args
    return replace(args, session_id=as_text(held.get("Session"), "Session"))


# -- transactions


def _operations(plain: Any, what: str) -> Plain:
    held = as_map(plain, what)
    for operation in as_list(held.get("Ops"), "Ops"):
        if as_map(operation, "Ops").get("Intention") is not None:
            raise BadRequestError("Intentions are not supported in transactions")
    return held


def _txn_from_plain(plain: Any) -> TxnRequest:
    return from_plain(_operations(plain, "TxnRequest"), TxnRequest)


def _txn_read_from_plain(plain: Any) -> TxnReadRequest:
    return from_plain(_operations(plain, "TxnReadRequest"), TxnReadRequest)


# -- config entries


def _config_entry_to_plain(args: ConfigEntryRequest) -> bytes:
    entry = args.entry
    body = {
        "Datacenter": args.datacenter,
        "Entry": wire_entry(entry),
        "Op": args.op,
        "Token": args.token,
    }
    return pack_parts(entry.kind, body, single_floats=single_floats(entry))


# -- methods without arguments


def _nothing(args: Any) -> Plain:
    return {}


def _empty_from_plain(plain: Any) -> EmptyRequest:
    as_map(plain, "arguments")
    return EmptyRequest()


# -- methods of features that are off


def _passed_to_plain(args: PassedRequest) -> Plain:
    return args.plain


def _passed_from_plain(plain: Any) -> PassedRequest:
    held = as_map(plain, "arguments")
    return replace(from_plain({**held, "Plain": None}, PassedRequest), plain=held)


_passed = Arguments(PassedRequest, _passed_to_plain, _passed_from_plain)
_empty = _query(EmptyRequest)
_none = Arguments(EmptyRequest, _nothing, _empty_from_plain)
_datacenter = _query(DCSpecificRequest)
_node = _query(NodeSpecificRequest)
_service = Arguments(
    ServiceSpecificRequest, _set_fields(ServiceSpecificRequest), _service_from_plain
)
_key = _query(KeyRequest)
_session = Arguments(SessionSpecificRequest, _session_to_plain, _session_from_plain)
_intention = _query(IntentionQueryRequest)
_execute = _query(PreparedQueryExecuteRequest)
_config_entry = Arguments(
    ConfigEntryRequest, _config_entry_to_plain, cast(Write, decode_record)
)
_remove_peer = _whole(RaftRemovePeerRequest)

ARGUMENTS: dict[str, Arguments] = {
    **dict.fromkeys(PASSED, _passed),
    "ACL.TokenBatchRead": _query(ACLTokenBatchGetRequest),
    "ACL.TokenRead": _query(ACLTokenGetRequest),
    "Catalog.Deregister": _whole(DeregisterRequest),
    "Catalog.GatewayServices": _service,
    "Catalog.ListDatacenters": _empty,
    "Catalog.ListNodes": _datacenter,
    "Catalog.ListServices": _datacenter,
    "Catalog.NodeServiceList": _node,
    "Catalog.NodeServices": _node,
    "Catalog.Register": _whole(RegisterRequest),
    "Catalog.ServiceList": _datacenter,
    "Catalog.ServiceNodes": _service,
    "ConfigEntry.Apply": _config_entry,
    "ConfigEntry.Delete": _config_entry,
    "ConfigEntry.Get": _query(ConfigEntryQuery),
    "ConfigEntry.List": _query(ConfigEntryQuery),
    "ConfigEntry.ListAll": _query(ConfigEntryListAllRequest),
    "ConfigEntry.ResolveServiceConfig": _query(ServiceConfigRequest),
    "ConnectCA.ConfigurationGet": _datacenter,
    "ConnectCA.Roots": _datacenter,
    "Coordinate.ListDatacenters": _none,
    "Coordinate.ListNodes": _datacenter,
    "Coordinate.Node": _node,
    "Coordinate.Update": _whole(CoordinateUpdateRequest),
    "DiscoveryChain.Get": _query(DiscoveryChainRequest),
    "FederationState.Get": _query(FederationStateQuery),
    "FederationState.List": _datacenter,
    "FederationState.ListMeshGateways": _datacenter,
    "Health.ChecksInState": _query(ChecksInStateRequest),
    "Health.NodeChecks": _node,
    "Health.ServiceChecks": _service,
    "Health.ServiceNodes": _service,
    "Intention.Check": _intention,
    "Intention.Get": _intention,
    "Intention.List": _query(IntentionListRequest),
    "Intention.Match": _intention,
    "Internal.EventFire": _query(EventFireRequest),
    "Internal.GatewayIntentions": _intention,
    "Internal.GatewayServiceDump": _service,
    "Internal.KeyringOperation": _query(KeyringRequest),
    "Internal.NodeDump": _datacenter,
    "Internal.NodeInfo": _node,
    "Internal.ServiceDump": Arguments(
        DCSpecificRequest, _set_fields(DCSpecificRequest), _service_dump_from_plain
    ),
    "KVS.Apply": Arguments(KVSRequest, _kvs_to_plain, _kvs_from_plain),
    "KVS.Get": _key,
    "KVS.List": _key,
    "KVS.ListKeys": _query(KeyListRequest),
    "Operator.AutopilotGetConfiguration": _empty,
    "Operator.AutopilotSetConfiguration": _whole(AutopilotSetConfigRequest),
    "Operator.RaftGetConfiguration": _empty,
    "Operator.RaftRemovePeerByAddress": _remove_peer,
    "Operator.RaftRemovePeerByID": _remove_peer,
    "Operator.ServerHealth": _empty,
    "Operator.TransferLeader": _whole(RaftTransferLeaderRequest),
    "PreparedQuery.Apply": _whole(PreparedQueryRequest),
    "PreparedQuery.Execute": _execute,
    "PreparedQuery.ExecuteRemote": _query(PreparedQueryExecuteRemoteRequest),
    "PreparedQuery.Explain": _execute,
    "PreparedQuery.Get": _query(PreparedQuerySpecificRequest),
    "PreparedQuery.List": _datacenter,
    "Session.Apply": _whole(SessionRequest),
    "Session.Get": _session,
    "Session.List": _datacenter,
    "Session.NodeSessions": _node,
    "Session.Renew": _session,
    "Status.Leader": _empty,
    "Status.Peers": _empty,
    "Status.Ping": _none,
    "Status.RaftStats": _none,
    "Txn.Apply": Arguments(TxnRequest, to_plain, _txn_from_plain),
    "Txn.Read": Arguments(TxnReadRequest, to_plain, _txn_read_from_plain),
}
"""How the arguments of each method cross the wire."""
