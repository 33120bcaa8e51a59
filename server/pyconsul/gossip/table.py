"""All known nodes, and random picks from them in constant time."""

from __future__ import annotations

import random

from pyconsul.gossip.messages import Node, NodeState


class RandomSet:
    """Nodes by name, with random picks that do not look at all of them."""

    def __init__(self) -> None:
        self._items: list[Node] = []
        self._at: dict[str, int] = {}
        self._dealt = 0
        """How many at the front had their turn in this round."""

    def __len__(self) -> int:
        return len(self._items)

    def __contains__(self, node: Node) -> bool:
        return node.name in self._at

    def add(self, node: Node) -> None:
        """Add a node; one that is in already stays."""
        if node.name not in self._at:
            self._at[node.name] = len(self._items)
            self._items.append(node)

    def discard(self, node: Node) -> None:
        """Take a node out; the last one takes its place."""
        at = self._at.pop(node.name, None)
        if at is None:
            return
        last = self._items.pop()
        if last is not node:
            self._items[at] = last
            self._at[last.name] = at

    def pick(
        self, rng: random.Random, count: int, skip: Node | None = None
    ) -> list[Node]:
        """Return up to ``count`` different nodes other than ``skip``."""
        skipped = skip is not None and skip in self
        wanted = min(len(self._items), count + skipped)
        if not wanted:
            return []
        picks = rng.sample(self._items, wanted)
        if skipped:
            picks = [node for node in picks if node is not skip]
        return picks[:count]

    def turns(self, rng: random.Random, count: int) -> list[Node]:
        """Return up to ``count`` different nodes, none twice before all had a turn.

        A message is sent but a few times: independent draws would leave out one
        of a handful of nodes now and then.
        """
        items = self._items
        picks: list[Node] = []
        while len(picks) < min(count, len(items)):
            if self._dealt >= len(items):
                self._dealt = 0
            at = rng.randrange(self._dealt, len(items))
            node, other = items[at], items[self._dealt]
            if node in picks:
                continue  # of the round that has just ended
            items[at], items[self._dealt] = other, node
            self._at[other.name], self._at[node.name] = at, self._dealt
            self._dealt += 1
            picks.append(node)
        return picks


class NodeTable:
    """Nodes by name, the probe ring, and who may be picked for what."""

    def __init__(self, rng: random.Random) -> None:
        self.nodes: dict[str, Node] = {}
        self.alive = RandomSet()
        """Others that are alive and not suspected."""
        self.gossip = RandomSet()
        """Others that are alive, suspected, or dead for a short time."""
        self._rng = rng
        self._ring: list[Node] = []
        self._next = 0
        self._local_name = ""

    def add_local(self, node: Node) -> None:
        """Add the local node: it is never probed, picked or forgotten."""
        self._local_name = node.name
        self.nodes[node.name] = node

    def add(self, node: Node) -> None:
        """Add another node, at a random place of the ring."""
        self.nodes[node.name] = node
        ring = self._ring
        ring.append(node)
        other = self._rng.randrange(len(ring))
        ring[other], ring[-1] = ring[-1], ring[other]

    def set_state(self, node: Node, state: NodeState, now: float) -> None:
        """Change a node's state."""
        if node.state is not state:
            node.state = state
            node.changed_at = now
        if node.name == self._local_name:
            return
        if state is NodeState.ALIVE:
            self.alive.add(node)
        else:
            self.alive.discard(node)
        if state is NodeState.LEFT:
            self.gossip.discard(node)
        else:
            self.gossip.add(node)

    def next_target(self, now: float, dead_for_s: float) -> Node | None:
        """Return the ring's next node that is alive or suspected.

        At the ring's end those dead or left for longer than ``dead_for_s`` are
        forgotten and the rest is shuffled.
        """
        for _ in range(len(self._ring) + 1):
            if self._next >= len(self._ring):
                self._start_round(now, dead_for_s)
                if not self._ring:
                    return None
            node = self._ring[self._next]
            self._next += 1
            if node.state <= NodeState.SUSPECT:
                return node
        return None

    def _start_round(self, now: float, dead_for_s: float) -> None:
        self._next = 0
        kept: list[Node] = []
        for node in self._ring:
            if node.state > NodeState.SUSPECT and now - node.changed_at > dead_for_s:
                del self.nodes[node.name]
                self.gossip.discard(node)
            else:
                kept.append(node)
        self._rng.shuffle(kept)
        self._ring = kept
