"""Push/pull: exchange and merge of everything both sides know.

Source: ``wire-gossip.md`` 5 (what a merge does) and 7.3 (its interval).
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from pyconsul.gossip.codec import encode_push_pull
from pyconsul.gossip.messages import (
    Alive,
    Dead,
    Delegate,
    MergeRefusedError,
    Node,
    NodeState,
    PushPull,
    RemoteNode,
    Suspect,
)
from pyconsul.gossip.rules import StateRules
from pyconsul.gossip.table import NodeTable

NODES_UNSCALED = 32
"""Up to this many nodes push/pull at the plain interval."""


def push_pull_interval_s(interval_s: float, node_count: int) -> float:
    """Return the interval in a pool of ``node_count``."""
    if node_count <= NODES_UNSCALED:
        return interval_s
    steps = math.ceil(math.log2(node_count) - math.log2(NODES_UNSCALED))
    return interval_s * (steps + 1)


def check_versions(local: Iterable[Node], remote: Iterable[RemoteNode]) -> None:
    """Raise ``MergeRefusedError`` unless all alive nodes understand each other.

    Nodes without versions (from very old peers) are not checked.
    """
    known = {node.name: node.versions for node in local if node.state is _ALIVE}
    known |= {node.name: node.versions for node in remote if node.state is _ALIVE}
    ranges = {name: versions for name, versions in known.items() if any(versions)}
    if not ranges:
        return
    for kind, first in (("protocol", 0), ("delegate protocol", 3)):
        lowest = max(versions[first] for versions in ranges.values())
        highest = min(versions[first + 1] for versions in ranges.values())
        for name, versions in ranges.items():
            if not lowest <= versions[first + 2] <= highest:
                raise MergeRefusedError(
                    f"Node '{name}' {kind} version ({versions[first + 2]}) is "
                    f"incompatible: [{lowest}, {highest}]"
                )


_ALIVE = NodeState.ALIVE


class Merger:
    """Writes the local state and merges others' into it."""

    def __init__(
        self, local: Node, delegate: Delegate, table: NodeTable, rules: StateRules
    ) -> None:
        self._local = local
        self._delegate = delegate
        self._table = table
        self._rules = rules

    def local_message(self, join: bool) -> bytes:
        """Return the push/pull message of this side."""
        nodes = [
            RemoteNode(
                node.name,
                node.host,
                node.port,
                node.meta,
                node.incarnation,
                node.state,
                node.versions,
            )
            for node in self._table.nodes.values()
        ]
        return encode_push_pull(join, nodes, self._delegate.local_state(join))

    def merge(self, remote: PushPull, now: float) -> None:
        """Merge the other side's state. Raises ``MergeRefusedError``."""
        check_versions(self._table.nodes.values(), remote.nodes)
        if remote.join:
            self._delegate.check_merge([_node_of(node) for node in remote.nodes])
        for node in remote.nodes:
            self._merge_node(node, now)
        if remote.user_state:
            self._delegate.merge_state(remote.user_state, remote.join)

    def _merge_node(self, node: RemoteNode, now: float) -> None:
        rules = self._rules
        if node.state is NodeState.ALIVE:
            # Nearly always; the check spares building the message.
            if rules.is_old_news(node.name, node.incarnation, node.host, node.port):
                return
            alive = Alive(
                node.incarnation,
                node.name,
                node.host,
                node.port,
                node.meta,
                node.versions,
            )
            rules.alive(alive, now)
        elif node.state is NodeState.LEFT:
            rules.dead(Dead(node.incarnation, node.name, node.name), now)
        else:
            # Believe nobody dead on hearsay: the node gets time to refute.
            suspect = Suspect(node.incarnation, node.name, self._local.name)
            rules.suspect(suspect, now)


def _node_of(node: RemoteNode) -> Node:
    return Node(
        name=node.name,
        host=node.host,
        port=node.port,
        meta=node.meta,
        versions=node.versions,
        incarnation=node.incarnation,
        state=node.state,
    )
