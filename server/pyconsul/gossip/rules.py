"""The state rules: alive, suspect, dead, refute (``wire-gossip.md`` 7.4).

Every accepted message is queued for broadcast again; a message that tells
nothing new is dropped, which is what ends an epidemic.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyconsul.gossip.awareness import Awareness
from pyconsul.gossip.codec import encode_alive, encode_dead, encode_suspect
from pyconsul.gossip.messages import (
    Alive,
    Dead,
    Delegate,
    LeaveSent,
    MergeRefusedError,
    Node,
    NodeState,
    Settings,
    Suspect,
)
from pyconsul.gossip.outbox import Outbox
from pyconsul.gossip.suspicion import Suspicion
from pyconsul.gossip.table import NodeTable
from pyconsul.gossip.timers import Timer, Timers

INCARNATION_MAX = 0xFFFFFFFF


@dataclass(slots=True)
class _Countdown:
    suspicion: Suspicion
    timer: Timer


class StateRules:
    """Applies messages about nodes to the table."""

    def __init__(
        self,
        local: Node,
        settings: Settings,
        delegate: Delegate,
        table: NodeTable,
        outbox: Outbox,
        timers: Timers,
        awareness: Awareness,
    ) -> None:
        self._local = local
        self._settings = settings
        self._delegate = delegate
        self._table = table
        self._outbox = outbox
        self._timers = timers
        self._awareness = awareness
        self._countdowns: dict[str, _Countdown] = {}
        self.leaving = False
        """``leave`` was called; the local node is not alive any more."""

    def announce(self, now: float) -> None:
        """Make the local node known (again), with its current meta."""
        local = self._local
        local.incarnation += 1
        self._table.set_state(local, NodeState.ALIVE, now)
        self._broadcast_local()

    def _broadcast_local(self) -> None:
        self._broadcast(self._local.name, encode_alive(alive_of(self._local)))

    def _broadcast(self, name: str, message: bytes) -> None:
        self._outbox.queue.add(message, name)

    # Alive.

    def alive(self, alive: Alive, now: float) -> None:
        """Take an alive message."""
        if alive.node == self._local.name:
            self._alive_self(alive)
            return
        if self.is_old_news(alive.node, alive.incarnation, alive.host, alive.port):
            return
        versions = alive.versions
        if not 0 < versions[0] <= versions[1] or not alive.host or not alive.node:
            return
        claimed = node_of(alive)
        try:
            self._delegate.check_alive(claimed)
        except MergeRefusedError:
            return
        node = self._table.nodes.get(alive.node)
        if node is None:
            node = claimed
            node.incarnation, node.state = 0, NodeState.DEAD
            node.changed_at = now
            self._table.add(node)
        elif node.address != claimed.address and not self._is_reclaimable(node, now):
            self._delegate.on_conflict(node, claimed)
            return
        self._accept(node, alive, now)

    def is_old_news(self, name: str, incarnation: int, host: str, port: int) -> bool:
        """Whether an alive message about another node would change nothing."""
        node = self._table.nodes.get(name)
        return (
            node is not None
            and incarnation <= node.incarnation
            and node.port == port
            and node.host == host
            and node is not self._local
        )

    def _is_reclaimable(self, node: Node, now: float) -> bool:
        if node.state is NodeState.LEFT:
            return True
        reclaim_s = self._settings.dead_node_reclaim_time
        dead_s = now - node.changed_at
        return node.state is NodeState.DEAD and reclaim_s > 0 and dead_s > reclaim_s

    def _accept(self, node: Node, alive: Alive, now: float) -> None:
        self._acquit(node.name)
        self._broadcast(node.name, encode_alive(alive))
        was_gone = node.state > NodeState.SUSPECT
        changed = node.meta != alive.meta
        node.incarnation = alive.incarnation
        node.host, node.port = alive.host, alive.port
        node.meta, node.versions = alive.meta, alive.versions
        self._table.set_state(node, NodeState.ALIVE, now)
        if was_gone:
            self._delegate.on_join(node)
        elif changed:
            self._delegate.on_update(node)

    def _alive_self(self, alive: Alive) -> None:
        local = self._local
        if self.leaving:
            return
        if local.address != (alive.host, alive.port):
            self._delegate.on_conflict(local, node_of(alive))
            return
        if alive.incarnation < local.incarnation:
            return
        same = alive.meta == local.meta and alive.versions == local.versions
        if alive.incarnation > local.incarnation or not same:
            self._refute(alive.incarnation)

    def _refute(self, accused: int) -> None:
        local = self._local
        local.incarnation = min(max(local.incarnation, accused) + 1, INCARNATION_MAX)
        self._awareness.apply(1)
        self._broadcast_local()

    # Suspect.

    def suspect(self, suspect: Suspect, now: float) -> None:
        """Take a suspect message, another's or our own."""
        node = self._table.nodes.get(suspect.node)
        if node is None or suspect.incarnation < node.incarnation:
            return
        countdown = self._countdowns.get(node.name)
        if countdown is not None:
            if countdown.suspicion.confirm(suspect.accuser):
                self._broadcast(node.name, encode_suspect(suspect))
                countdown.timer.cancel()
                countdown.timer = self._timer_for(node, countdown.suspicion)
            return
        if node.state is not NodeState.ALIVE:
            return
        if node is self._local:
            self._refute(suspect.incarnation)
            return
        self._broadcast(node.name, encode_suspect(suspect))
        node.incarnation = suspect.incarnation
        self._table.set_state(node, NodeState.SUSPECT, now)
        suspicion = Suspicion(
            suspect.accuser,
            settings=self._settings,
            node_count=len(self._table.nodes),
            now=now,
        )
        timer = self._timer_for(node, suspicion)
        self._countdowns[node.name] = _Countdown(suspicion, timer)

    def _timer_for(self, node: Node, suspicion: Suspicion) -> Timer:
        return self._timers.at(suspicion.deadline, lambda now: self._convict(node, now))

    def _convict(self, node: Node, now: float) -> None:
        self.dead(Dead(node.incarnation, node.name, self._local.name), now)

    def _acquit(self, name: str) -> None:
        countdown = self._countdowns.pop(name, None)
        if countdown is not None:
            countdown.timer.cancel()

    # Dead and left.

    def dead(self, dead: Dead, now: float) -> None:
        """Take a dead message; ``accuser == node`` means that it left."""
        node = self._table.nodes.get(dead.node)
        if node is None or dead.incarnation < node.incarnation:
            return
        if node.state > NodeState.SUSPECT:
            return
        if node is self._local:
            if not self.leaving:
                self._refute(dead.incarnation)
            return
        self._acquit(node.name)
        self._broadcast(node.name, encode_dead(dead))
        self._bury(node, dead, now)

    def _bury(self, node: Node, dead: Dead, now: float) -> None:
        left = dead.accuser == dead.node
        node.incarnation = dead.incarnation
        state = NodeState.LEFT if left else NodeState.DEAD
        self._table.set_state(node, state, now)
        if not left and node is not self._local:
            self._timers.at(
                now + self._settings.gossip_to_the_dead_time,
                lambda then: self._stop_gossip_to(node, then),
            )
        self._delegate.on_leave(node)

    def _stop_gossip_to(self, node: Node, now: float) -> None:
        # The deadline as it was computed: a difference may round down.
        until = node.changed_at + self._settings.gossip_to_the_dead_time
        if node.state is NodeState.DEAD and now >= until:
            self._table.gossip.discard(node)

    def leave(self, now: float) -> None:
        """Tell everyone that the local node leaves; ``LeaveSent`` when told."""
        if self.leaving:
            return
        self.leaving = True
        local = self._local
        dead = Dead(local.incarnation, local.name, local.name)
        outputs = self._outbox.outputs
        if any(n.state <= NodeState.SUSPECT for n in self._others()):
            self._outbox.queue.add(
                encode_dead(dead), local.name, lambda: outputs.append(LeaveSent())
            )
        else:
            outputs.append(LeaveSent())
        self._bury(local, dead, now)

    def _others(self) -> list[Node]:
        nodes = self._table.nodes.values()
        return [node for node in nodes if node is not self._local]


def alive_of(node: Node) -> Alive:
    """Return the alive message about a node."""
    return Alive(
        node.incarnation, node.name, node.host, node.port, node.meta, node.versions
    )


def node_of(alive: Alive) -> Node:
    """Return the node that an alive message describes."""
    return Node(
        name=alive.node,
        host=alive.host,
        port=alive.port,
        meta=alive.meta,
        versions=alive.versions,
        incarnation=alive.incarnation,
    )
