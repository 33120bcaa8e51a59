"""The functions by which a template reads Consul, the environment and files.

Each lookup notes the query it used. Data that is not there yet gives
``PENDING`` and makes the render incomplete; so does a key that does not exist,
unless the template says what to take instead.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from pyconsul_client.goflags import parse_duration
from pyconsul_client.queries import Queries, Query
from pyconsul_template.engine import Outcome
from pyconsul_template.pending import PENDING
from pyconsul_template.records import Instance, NodeRecord, ServiceName
from pyconsul_template.source import (
    Entry,
    Source,
    check_list,
    instances,
    names,
    node_detail,
    nodes_as_given,
    nodes_sorted,
    relative_to,
    service_names,
    sorted_instances,
    text_of,
    whole_pair,
)

T = TypeVar("T")

USES_MAX = 16_384
"""Distinct ways of calling ``service`` remembered; over it, all are forgotten."""
FILE_BYTES_MAX = 16 * 1024 * 1024
LOOKUP_FILTERS = ("key", "key_or_default", "key_exists", "ls", "tree", "service")
"""Lookups that make sense after a pipe; the piped value is their first argument."""
STATUSES = ("passing", "warning", "critical", "maintenance")
_PASSING = frozenset(("passing",))
_ANY = frozenset(STATUSES)

_SERVICE = re.compile(
    r"(?:(?P<tag>[\w=:.\-]+)\.)?(?P<name>[\w\-]+)"
    r"(?:@(?P<dc>[\w.\-]+))?(?:~(?P<near>[\w.\-]+))?(?:\|(?P<status>[\w,]+))?"
)
_KEY = re.compile(r"/?(?P<name>[^@]*)(?:@(?P<dc>[\w.\-]+))?")
_NODE = re.compile(r"(?P<name>[\w.\-]*)(?:@(?P<dc>[\w.\-]+))?(?:~(?P<near>[\w.\-]+))?")
_SELF = Query("/v1/agent/self", blocking=False)


_SCOPE = re.compile(r"\?([\w\-]+=[\w.\-]*(?:&[\w\-]+=[\w.\-]*)*)(?=[@~|]|$)")


class BadLookupError(Exception):
    """A lookup was asked for something that cannot be."""


def unscoped(what: str, text: str) -> tuple[str, str]:
    """Return what is asked for without its ``?name=value&...``, and the peer there.

    Of the names of Consul Enterprise only the default values are taken.
    """
    match = _SCOPE.search(text)
    if match is None:
        return text, ""
    peer = ""
    for word in match[1].split("&"):
        name, _, value = word.partition("=")
        if name == "peer" and what == "service":
            peer = value
        elif name not in ("ns", "partition") or value not in ("", "default"):
            is_enterprise = name in ("ns", "partition", "sameness-group")
            reason = "needs Consul Enterprise" if is_enterprise else "is not known"
            raise BadLookupError(f"{what}: ?{word} {reason}")
    return text[: match.start()] + text[match.end() :], peer


class Lookups:
    """The lookup functions of one template, and what the current render used."""

    def __init__(self, source: Source, file_root: Path | None) -> None:
        self._source = source
        self._file_root = file_root
        self._queries = Queries()
        self._services: dict[tuple[str | None, ...], _ServiceUse] = {}
        self.begin()

    def begin(self) -> None:
        """Start a render with nothing used."""
        self._used: set[Entry] = set()
        self._waiting: set[Entry] = set()
        self._missing: set[Entry] = set()
        self.files: frozenset[Path] = frozenset()
        """Files the render read."""
        self.limits: dict[Entry, float] = {}
        """Seconds that keys with a ``timeout`` may be absent."""

    def is_held(self) -> bool:
        """Whether something the render asked for is not there."""
        return bool(self._waiting or self._missing)

    def outcome(self, *, failed: bool = False) -> Outcome[Entry]:
        """Return what the render used so far."""
        return Outcome(
            used=frozenset(self._used),
            waiting=frozenset(self._waiting),
            missing=frozenset(self._missing),
            failed=failed,
        )

    def table(self) -> Mapping[str, Callable[..., Any]]:
        """Return the functions by the name templates call them."""
        return {
            "key": self.key,
            "key_or_default": self.key_or_default,
            "key_exists": self.key_exists,
            "kv": self.kv,
            "ls": self.ls,
            "tree": self.tree,
            "safe_ls": self.safe_ls,
            "safe_tree": self.safe_tree,
            "service": self.service,
            "services": self.services,
            "checks": self.checks,
            "node": self.node,
            "nodes": self.nodes,
            "datacenters": self.datacenters,
            "env": self.env,
            "must_env": self.must_env,
            "env_or_default": self.env,
            "file": self.file,
        }

    # Lookups of Consul

    def key(
        self,
        path: str,
        default: Any = PENDING,
        *,
        dc: str = "",
        required: bool = False,
        timeout: str | float = 0,
    ) -> Any:
        """Return a key's value; without a ``default`` an absent key is waited for.

        ``required`` makes an absent key an error at once, ``timeout`` one that is
        absent for so long (Go's duration, or seconds). A default also stands for
        an empty value, as in the reference.
        """
        entry = self._key_entry(path, dc)
        if timeout:
            is_text = isinstance(timeout, str)
            self.limits[entry] = parse_duration(timeout) if is_text else float(timeout)
        if not self._is_ready(entry):
            return PENDING
        value = None if entry.view.data is None else entry.converted(text_of)
        if value is None and required:
            raise BadLookupError(f"key: {path} does not exist")
        if default is not PENDING:
            return value or default
        return self._absent(entry) if value is None else value

    def key_or_default(self, path: str, default: Any, *, dc: str = "") -> Any:
        """Return a key's value, ``default`` when it is absent or empty."""
        return self.key(path, default, dc=dc)

    def key_exists(self, path: str, *, dc: str = "") -> Any:
        """Return whether a key exists, be its value empty."""
        entry = self._key_entry(path, dc)
        if not self._is_ready(entry):
            return PENDING
        return entry.view.data is not None

    def kv(self, path: str, *, dc: str = "") -> Any:
        """Return a key's whole pair, waited for when absent."""
        entry = self._key_entry(path, dc)
        if not self._is_ready(entry):
            return PENDING
        if entry.view.data is None:
            return self._absent(entry)
        return entry.converted(whole_pair)

    def ls(self, prefix: str, *, dc: str = "", safe: bool = False) -> Any:
        """Return the pairs one level below a folder; ``safe`` waits for one."""
        pairs = self._pairs(prefix, dc, raw=False, safe=safe)
        if pairs is PENDING:
            return pairs
        return [pair for pair in pairs if "/" not in pair.key]

    def tree(
        self, prefix: str, *, dc: str = "", safe: bool = False, raw: bool = False
    ) -> Any:
        """Return all pairs below a folder; ``raw`` takes any key so beginning."""
        return self._pairs(prefix, dc, raw=raw, safe=safe)

    def safe_ls(self, prefix: str, *, dc: str = "") -> Any:
        """Return ``ls``, waiting until there is a pair."""
        return self.ls(prefix, dc=dc, safe=True)

    def safe_tree(self, prefix: str, *, dc: str = "") -> Any:
        """Return ``tree``, waiting until there is a pair."""
        return self.tree(prefix, dc=dc, safe=True)

    def _pairs(self, prefix: str, dc: str, *, raw: bool, safe: bool) -> Any:
        folder, dc = self._located("prefix", prefix, dc)
        if folder and not raw and not folder.endswith("/"):
            folder += "/"
        query = self._queries.kv_prefix(folder, dc)
        entry = self._source.entry(query)
        pairs = self._read(entry, relative_to(len(folder)))
        if pairs is PENDING or pairs or not safe:
            return pairs
        return self._absent(entry)

    def service(
        self,
        name: str,
        *filters: str,
        tag: str | None = None,
        dc: str = "",
        near: str = "",
        status: str = "",
        filter: str = "",
        peer: str = "",
    ) -> Any:
        """Return a service's instances, the healthy ones unless a status is given.

        ``name`` is ``[tag.]name[@dc][~near][|status,...]``, or with ``tag`` (be
        it empty) just the name, which may then have dots. When ``tag.name`` has
        no instance but there is a service of that whole name, it is meant.
        ``status`` is ``any`` or a list of ``passing``, ``warning``, ``critical``,
        ``maintenance``.
        """
        status = status or ",".join(filters)
        if peer:
            name = f"{name}?peer={peer}"
        asked = name, tag, dc, near, status, filter
        use = self._services.get(asked)
        if use is None or not use.entry.is_live:
            if len(self._services) >= USES_MAX:
                self._services.clear()
            use = self._services[asked] = self._service_use(*asked)
        entry = use.entry
        if use.data is entry.view.data is not None:
            self._used.add(entry)
            return use.found
        found = self._read(entry, use.convert)
        if found is PENDING:
            return found
        if not found and use.dotted:
            return self._dotted(use, filter)
        if use.statuses not in (_PASSING, _ANY):
            wanted = use.statuses
            found = [instance for instance in found if instance.status in wanted]
        use.data, use.found = entry.view.data, found
        return found

    def _dotted(self, use: _ServiceUse, filter: str) -> Any:
        """Return the instances of the service that has the tag in its name."""
        listed = self.services(dc=use.dc)
        if listed is PENDING:
            return listed
        if not any(service.name == use.dotted for service in listed):
            return []
        status = ",".join(sorted(use.statuses))
        return self.service(
            use.dotted, tag="", dc=use.dc, near=use.near, status=status, filter=filter
        )

    def _service_use(
        self,
        name: str,
        tag: str | None,
        dc: str,
        near: str,
        status: str,
        filter: str,
        *,
        by_mesh: bool = False,
    ) -> _ServiceUse:
        name, peer = unscoped("service", name)
        tags = [tag] if tag else []
        dotted = ""
        if tag is None:
            found = self._parsed("service", _SERVICE, name)
            name = found["name"] or ""
            if found["tag"]:
                tags = [found["tag"]]
                dotted = "" if peer else f"{found['tag']}.{name}"
            dc, near = dc or found["dc"] or "", near or found["near"] or ""
            status = status or found["status"] or ""
        statuses = _statuses(status)
        query = self._queries.service(
            name,
            tags=tags,
            dc=dc,
            near=near,
            passing=statuses == _PASSING,
            filter=filter,
        )
        if peer:
            query = replace(query, params=(*query.params, ("peer", peer)))
        if by_mesh:
            path = query.path.replace("/health/service/", "/health/connect/", 1)
            query = replace(query, path=path)
        convert = instances if near else sorted_instances
        entry = self._source.entry(query)
        return _ServiceUse(entry, convert, statuses, dotted, dc, near)

    def services(self, where: str = "", *, tag: str = "", dc: str = "") -> Any:
        """Return the catalog's services by name; each prints as its name."""
        query = self._queries.services(dc or unscoped("services", where)[0].lstrip("@"))
        found: list[ServiceName] | Any = self._read(
            self._source.entry(query), service_names
        )
        if found is PENDING or not tag:
            return found
        return [service for service in found if tag in service.tags]

    def checks(self, service: str = "", *, state: str = "any", dc: str = "") -> Any:
        """Return the checks of a service, or without one those in a state."""
        query = self._queries.checks(state, service, dc)
        return self._read(self._source.entry(query), check_list)

    def node(self, name: str = "", *, dc: str = "") -> Any:
        """Return a node with its services, or ``None``; the agent's own unnamed."""
        found = self._parsed("node", _NODE, name)
        wanted = found["name"]
        if not wanted:
            own = self._source.entry(_SELF)
            if not self._is_ready(own):
                return PENDING
            wanted = own.view.data["Config"]["NodeName"]
        query = self._queries.node(wanted, dc or found["dc"] or "")
        return self._read(self._source.entry(query), node_detail)

    def nodes(self, where: str = "", *, dc: str = "", near: str = "") -> Any:
        """Return the nodes by name, or by distance from ``near``."""
        found = self._parsed("nodes", _NODE, where)
        near = near or found["near"] or ""
        query = self._queries.nodes(dc or found["dc"] or "", near)
        result: list[NodeRecord] | Any = self._read(
            self._source.entry(query), nodes_as_given if near else nodes_sorted
        )
        return result

    def datacenters(self, ignore_unreachable: bool = False) -> Any:
        """Return the known datacenters, the nearest first."""
        del ignore_unreachable  # The answer only ever names known ones.
        return self._read(self._source.entry(self._queries.datacenters()), names)

    # Lookups outside Consul

    def env(self, name: str, default: str = "", *, required: bool = False) -> str:
        """Return an environment variable, ``default`` when it is unset."""
        value = os.environ.get(name)
        if value is None and required:
            raise BadLookupError(f"env: {name} is not set")
        return default if value is None else value

    def must_env(self, name: str) -> str:
        """Return an environment variable; unset is an error."""
        return self.env(name, required=True)

    def file(self, name: str) -> str:
        """Return a file's text; the template is rendered again when it changes."""
        path = Path(os.path.realpath(name))
        root = self._file_root
        if root is not None and not path.is_relative_to(os.path.realpath(root)):
            raise BadLookupError(f"file: {name} is outside sandbox_path {root}")
        self.files |= {path}
        if path.stat().st_size > FILE_BYTES_MAX:
            raise BadLookupError(f"file: {name} is over {FILE_BYTES_MAX} bytes")
        return path.read_bytes().decode("utf-8", "surrogateescape")

    # Recording

    def _key_entry(self, path: str, dc: str) -> Entry:
        name, dc = self._located("key", path, dc)
        if not name:
            raise BadLookupError("key: the name is empty")
        return self._source.entry(self._queries.kv_key(name, dc))

    def _located(self, what: str, path: str, dc: str) -> tuple[str, str]:
        """Return name and datacenter; with the keyword, ``@`` is part of the name."""
        if dc:
            return path.removeprefix("/"), dc
        found = self._parsed(what, _KEY, path)
        return found["name"] or "", found["dc"] or ""

    def _parsed(
        self, what: str, pattern: re.Pattern[str], text: str
    ) -> dict[str, str | None]:
        match = pattern.fullmatch(unscoped(what, text)[0])
        if match is None:
            raise BadLookupError(f"{what}: {text!r} is malformed")
        return match.groupdict()

    def _is_ready(self, entry: Entry) -> bool:
        self._used.add(entry)
        if entry.view.ready:
            return True
        self._waiting.add(entry)
        return False

    def _read(self, entry: Entry, convert: Callable[[Any], T]) -> T | Any:
        return entry.converted(convert) if self._is_ready(entry) else PENDING

    def _absent(self, entry: Entry) -> Any:
        self._missing.add(entry)
        return PENDING


class _ServiceUse(Struct):
    """What one way of calling ``service`` comes to; found once, as parsing and
    hashing a query cost more than using it."""

    entry: Entry
    convert: Callable[[Any], list[Instance]]
    statuses: frozenset[str]
    dotted: str = ""
    """Tag and name as one name, when they were given with a dot."""
    dc: str = ""
    near: str = ""
    data: Any = None
    """The view's data that ``found`` was made of."""
    found: list[Instance] | None = None


def _statuses(text: str) -> frozenset[str]:
    wanted = frozenset(part.strip() for part in (text or "passing").split(","))
    if "any" in wanted:
        return _ANY
    if unknown := sorted(wanted.difference(STATUSES)):
        raise BadLookupError(f"service: invalid status {unknown[0]!r}")
    return wanted
