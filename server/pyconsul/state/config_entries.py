"""Config entries, and the services of gateways that follow from them.

Entries are kept by kind and name. Which services a gateway serves is derived
when asked, from its entry and, for wildcards, from the names in the catalog.
Command and snapshot record are number 22: one raw of two msgpack values
(``wire-rpc.md`` section 4).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from msgspec.structs import replace

from pyconsul.state.catalog import Catalog
from pyconsul.state.discovery import check_chains
from pyconsul.state.journal import Journal
from pyconsul.state.watch import Read
from pyconsul.types.config_entries import (
    FIXED_NAMES,
    KINDS,
    ConfigEntry,
    ConfigEntryRequest,
    GatewayService,
    complete,
)
from pyconsul.types.errors import CommandError
from pyconsul.types.gomsgpack import (
    MsgpackError,
    Plain,
    pack,
    raw_bytes,
    unpack,
    unpack_stream,
)
from pyconsul.types.messages import Row
from pyconsul.types.proxies import BlockError, checked

CONFIG_ENTRY = 22
TABLE = "config-entries"
GATEWAYS = "gateway-services"
WILDCARD = "*"

_GATEWAY_KINDS = ("ingress-gateway", "terminating-gateway")
_CHAIN_KINDS = frozenset(
    (
        "proxy-defaults",
        "service-defaults",
        "service-resolver",
        "service-router",
        "service-splitter",
    )
)
_LIMIT = 64 << 20

Key = tuple[str, str]


class ConfigEntryTable:
    """Config entries by kind and name, with their reads."""

    __slots__ = ("_catalog", "_journal", "rows")

    def __init__(self, journal: Journal, catalog: Catalog) -> None:
        self._journal = journal
        self._catalog = catalog
        self.rows: dict[Key, Row] = {}

    # -- writes

    def apply(self, index: int, request: ConfigEntryRequest) -> bool:
        """Apply a request; raises ``CommandError`` when it may not be.

        The caller has begun the journal. ``False`` means the entry's index was
        not the one expected.
        """
        entry = request.entry
        if request.op == "delete":
            self._delete(index, (entry.kind, entry.name))
            return True
        if request.op not in ("upsert", "upsert-cas"):
            raise CommandError(f"invalid config entry operation type: {request.op}")
        if entry.kind not in KINDS:
            raise CommandError(f"invalid config entry kind: {entry.kind}")
        key = (entry.kind, entry.name)
        old = self.rows.get(key)
        found = old.record.modify_index if old is not None else 0
        if request.op == "upsert-cas" and entry.modify_index != found:
            return False
        self._refuse_clash(entry)
        created = old.record.create_index if old is not None else index
        row = Row(replace(entry, create_index=created, modify_index=index))
        self._journal.put(self.rows, key, row)
        self._changed(index, entry.kind, entry.name)
        return True

    def _delete(self, index: int, key: Key) -> None:
        if key in self.rows:
            self._journal.remove(self.rows, key)
            self._changed(index, *key)

    def _changed(self, index: int, kind: str, name: str) -> None:
        if kind in _CHAIN_KINDS:
            check_chains(self.rows, kind, name)
        self._journal.bump(TABLE, index)
        if kind in _GATEWAY_KINDS:
            self._journal.bump(GATEWAYS, index)

    def _refuse_clash(self, entry: ConfigEntry) -> None:
        """One name cannot be a gateway of two kinds."""
        if entry.kind not in _GATEWAY_KINDS:
            return
        for other in _GATEWAY_KINDS:
            if other != entry.kind and (other, entry.name) in self.rows:
                raise CommandError(
                    f'cannot create a "{entry.kind}" config entry with name'
                    f' "{entry.name}", a "{other}" config entry with that name'
                    " already exists"
                )

    def load(self, entry: ConfigEntry) -> None:
        """Put an entry of a snapshot into the table as it is."""
        self.rows[entry.kind, entry.name] = Row(entry)

    # -- reads

    def get(self, kind: str, name: str) -> Read:
        """``Row`` of ``ConfigEntry`` or ``None``."""
        journal = self._journal
        row = self.rows.get((kind, name))
        return Read(row, journal.index(TABLE), journal.table_cells(TABLE))

    def list(self, kind: str = "") -> Read:
        """``list[Row]`` by kind and name; an empty kind means all."""
        journal = self._journal
        rows = [self.rows[k] for k in sorted(self.rows) if kind in ("", k[0])]
        return Read(rows, journal.index(TABLE), journal.table_cells(TABLE))

    def gateway_services(self, gateway: str) -> Read:
        """``list[GatewayService]`` of a gateway by service name and port.

        With a wildcard every change of a service may change the answer.
        """
        tables = [GATEWAYS]
        services: list[GatewayService] = []
        for kind in _GATEWAY_KINDS:
            row = self.rows.get((kind, gateway))
            if row is None:
                continue
            declared = list(_declared(row.record))
            named = {service.service for service in declared}
            for service in declared:
                if service.service == WILDCARD:
                    tables.append("services")
                    services.extend(self._expanded(service, named))
                else:
                    services.append(service)
        services.sort(key=lambda service: (service.service, service.port))
        journal = self._journal
        return Read(services, journal.index(*tables), journal.table_cells(*tables))

    def all_gateway_services(self) -> Read:
        """``list[GatewayService]`` of every gateway, by its name."""
        read = Read([], self._journal.index(GATEWAYS), ())
        cells = set(self._journal.table_cells(GATEWAYS))
        for name in sorted({n for kind, n in self.rows if kind in _GATEWAY_KINDS}):
            found = self.gateway_services(name)
            read.value += found.value
            cells.update(found.cells)
        read.cells = tuple(cells)
        return read

    def ingress_gateways(self, service: str) -> Read:
        """``list[str]``: the ingress gateways that expose a service, by name."""
        journal = self._journal
        names: list[str] = []
        wanted = service.lower()
        cells = set(journal.table_cells(GATEWAYS))
        for kind, name in sorted(self.rows):
            if kind == "ingress-gateway":
                read = self.gateway_services(name)
                cells.update(read.cells)  # those of a wildcard's services, too
                if any(one.service.lower() == wanted for one in read.value):
                    names.append(name)
        return Read(names, journal.index(GATEWAYS), tuple(cells))

    def _expanded(
        self, wildcard: GatewayService, named: set[str]
    ) -> Iterator[GatewayService]:
        for group in self._catalog.groups.values():
            if group.name in named or group.name == "consul":
                continue
            typical = [
                member.svc.create_index
                for member in group.members.values()
                if not member.svc.kind
            ]
            if typical:
                index = max(wildcard.modify_index, min(typical))
                yield replace(
                    wildcard,
                    service=group.name,
                    from_wildcard=True,
                    create_index=index,
                    modify_index=index,
                )


def _declared(entry: ConfigEntry) -> Iterator[GatewayService]:
    base = GatewayService(
        gateway=entry.name,
        gateway_kind=entry.kind,
        create_index=entry.modify_index,
        modify_index=entry.modify_index,
    )
    if entry.kind == "terminating-gateway":
        for linked in entry.fields["Services"] or ():
            yield replace(
                base,
                service=linked["Name"],
                ca_file=linked["CAFile"],
                cert_file=linked["CertFile"],
                key_file=linked["KeyFile"],
                sni=linked["SNI"],
            )
        return
    for listener in entry.fields["Listeners"] or ():
        for service in listener["Services"] or ():
            yield replace(
                base,
                service=service["Name"],
                port=listener["Port"],
                protocol=listener["Protocol"],
                hosts=service["Hosts"],
            )


# -- the wire


def entry_of(kind: str, plain: Plain) -> ConfigEntry:
    """Return an entry of a wire map; missing fields get their zeros."""
    try:
        fields = cast(Plain, checked(plain, "Entry"))
    except BlockError as error:
        raise MsgpackError(f"msgpack decode error: {error}") from None
    created, modified = fields.pop("CreateIndex", 0), fields.pop("ModifyIndex", 0)
    name = fields.get("Name") or FIXED_NAMES.get(kind, "")
    if not isinstance(name, str) or not (type(created) is type(modified) is int):
        raise MsgpackError("msgpack decode error: config entry is malformed")
    if kind in KINDS:
        fields = complete(KINDS[kind], fields)
    return ConfigEntry(
        kind=kind,
        name=name,
        fields=fields,
        create_index=created,
        modify_index=modified,
    )


def wire_entry(entry: ConfigEntry) -> Plain | bytes:
    """Return an entry as the wire has it (``proxy-defaults`` is a raw)."""
    plain = {
        **entry.fields,
        "CreateIndex": entry.create_index,
        "ModifyIndex": entry.modify_index,
    }
    if entry.kind != "mesh":  # which has no such fields
        plain |= {"Kind": entry.kind, "Name": entry.name}
    plain = dict(sorted(plain.items()))
    return pack(plain) if entry.kind == "proxy-defaults" else plain


def record_body(request: ConfigEntryRequest) -> bytes:
    """Return command or snapshot record without the type byte."""
    entry = request.entry
    body = {
        "Datacenter": request.datacenter,
        "Entry": wire_entry(entry),
        "Op": request.op,
        "Token": request.token,
    }
    # The weights of splits are single floats on the wire.
    single = entry.kind == "service-splitter"
    return pack(pack(entry.kind) + pack(body, single_floats=single))


def encode_config_entry(request: ConfigEntryRequest) -> bytes:
    """Return the command of a config entry's write."""
    return bytes((CONFIG_ENTRY,)) + record_body(request)


def decode_record(body: Any) -> ConfigEntryRequest:
    """Return the request in an unpacked raw; raises ``MsgpackError``."""
    if not isinstance(body, str | bytes):
        raise MsgpackError("msgpack decode error: config entry is no raw")
    values = list(unpack_stream([raw_bytes(body)], _LIMIT))
    if len(values) != 2 or not isinstance(values[0], str):
        raise MsgpackError("msgpack decode error: config entry is malformed")
    plain = _map(values[1])
    entry = plain.get("Entry")
    if isinstance(entry, str):
        entry = unpack(raw_bytes(entry))
    return ConfigEntryRequest(
        op=str(plain.get("Op") or ""),
        datacenter=str(plain.get("Datacenter") or ""),
        token=str(plain.get("Token") or ""),
        entry=entry_of(values[0], _map(entry)),
    )


def _map(value: Any) -> Plain:
    if not isinstance(value, dict):
        raise MsgpackError("msgpack decode error: config entry is malformed")
    return cast(Plain, value)
