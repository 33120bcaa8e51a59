"""Prepared queries and what their calls carry (wire names of ``wire-rpc.md``)."""

from __future__ import annotations

import msgspec

from pyconsul.types.messages import (
    NOWHERE,
    QueryOptions,
    QuerySource,
    WriteOptions,
)
from pyconsul.types.records import CheckServiceNode, Record


class QueryTemplate(Record, frozen=True, kw_only=True):
    """How a query stands for many names."""

    type: str = ""
    regexp: str = ""
    remove_empty_tags: bool = False


class QueryFailover(Record, frozen=True, kw_only=True):
    """Where to look when nothing healthy is here."""

    nearest_n: int = 0
    datacenters: list[str] | None = None


class ServiceQuery(Record, frozen=True, kw_only=True):
    """What a query looks for."""

    service: str = ""
    failover: QueryFailover = QueryFailover()
    only_passing: bool = False
    ignore_check_ids: list[str] | None = msgspec.field(
        name="IgnoreCheckIDs", default=None
    )
    near: str = ""
    tags: list[str] | None = None
    node_meta: dict[str, str] | None = None
    service_meta: dict[str, str] | None = None
    connect: bool = False


class QueryDns(Record, frozen=True, kw_only=True):
    """How DNS answers a query; the TTL is a duration's text."""

    ttl: str = msgspec.field(name="TTL", default="")


class PreparedQuery(Record, frozen=True, kw_only=True):
    """A stored query."""

    id: str = msgspec.field(name="ID", default="")
    name: str = ""
    session: str = ""
    token: str = ""
    template: QueryTemplate = QueryTemplate()
    service: ServiceQuery = ServiceQuery()
    dns: QueryDns = msgspec.field(name="DNS", default=QueryDns())
    create_index: int = 0
    modify_index: int = 0


class PreparedQueryRequest(WriteOptions, frozen=True, kw_only=True):
    """``PreparedQuery.Apply``; ``op`` is ``create``, ``update`` or ``delete``."""

    op: str = ""
    query: PreparedQuery = PreparedQuery()


class PreparedQuerySpecificRequest(QueryOptions, frozen=True, kw_only=True):
    """``PreparedQuery.Get``."""

    query_id: str = msgspec.field(name="QueryID", default="")


class PreparedQueryExecuteRequest(QueryOptions, frozen=True, kw_only=True):
    """``PreparedQuery.Execute`` and ``Explain``.

    ``source`` has the request's wish (a node, ``_agent``, ``_ip`` or nothing)
    and the client's address; ``agent`` is the agent that was asked.
    """

    query_id_or_name: str = msgspec.field(name="QueryIDOrName", default="")
    limit: int = 0
    connect: bool = False
    source: QuerySource = NOWHERE
    agent: QuerySource = NOWHERE


class PreparedQueryExecuteRemoteRequest(QueryOptions, frozen=True, kw_only=True):
    """``PreparedQuery.ExecuteRemote``: a query of another datacenter, rendered."""

    query: PreparedQuery = PreparedQuery()
    limit: int = 0
    connect: bool = False


class QueryResult(Record, frozen=True, kw_only=True):
    """What an executed query found."""

    service: str
    nodes: list[CheckServiceNode]
    dns: QueryDns
    datacenter: str
    failovers: int = 0
