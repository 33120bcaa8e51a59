"""What must hold at every moment of a simulated cluster.

Each check looks only at what has just changed, so that all of them run after
every step: one leader and one vote a term, one content for each (index, term)
with one predecessor (log matching), commits that a quorum has durably, leaders
that have every committed entry, the same command and result at an index on
every server, equal state (the bytes of snapshots) at equal index, and never two
servers that both believe in their lease.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from zlib import crc32

from pyconsul.raft.messages import Configuration, Entry, HardState
from pyconsul.state.snapshot import Snapshot
from pyconsul.state.store import StateStore

if TYPE_CHECKING:
    from cluster_sim import SimCluster, SimServer

DIGEST_EVERY = 24
"""State is compared at the commands whose index is a multiple of this."""
COMPARED = 300
"""How many of the newest committed entries a new leader must show."""


class Violation(AssertionError):
    """An invariant does not hold."""


class Checks:
    """The invariants of one run, and what they need to remember."""

    def __init__(self, cluster: SimCluster) -> None:
        self.cluster = cluster
        self.leases = True
        """Compare leases; histories must show the same without it."""
        self.failure = ""
        self.leaders: dict[int, str] = {}
        self.votes: dict[tuple[str, int], str] = {}
        self.committed: dict[int, int] = {}
        self.newest = 0
        self._commit_terms: dict[int, int] = {}
        self.installs = 0
        self._entries: dict[tuple[int, int], tuple[int, int]] = {}
        self._commands: dict[int, int] = {}
        self._results: dict[int, str] = {}
        self._digests: dict[int, bytes] = {}

    def fail(self, what: str) -> None:
        """Note the first violation; the run ends after this step."""
        if not self.failure:
            self.failure = f"at {self.cluster.clock.now:.4f}: {what}"

    def raise_failure(self) -> None:
        """Raise what was noted."""
        if self.failure:
            raise Violation(self.failure)

    # --- the log ---

    def on_vote(self, server: SimServer, state: HardState) -> None:
        """A term and a vote have become durable."""
        known = self.votes.get((server.id, state.term), "")
        if known and state.vote != known:
            self.fail(f"{server.id} votes twice in term {state.term}")
        self.votes[server.id, state.term] = state.vote

    def on_entries(self, entries: Sequence[Entry], before: int) -> None:
        """A server writes entries that follow one of term ``before``."""
        previous = before
        for entry in entries:
            mark = crc32(entry.data, entry.type)
            known = self._entries.setdefault((entry.index, entry.term), (0, mark))
            if known[1] != mark:
                self.fail(f"two entries {entry.index} of term {entry.term}")
            if previous:
                if known[0] and known[0] != previous:
                    self.fail(f"logs do not match before {entry.index}")
                self._entries[entry.index, entry.term] = (previous, mark)
            previous = entry.term

    def after_turn(self, server: SimServer) -> None:
        """A server has done something."""
        driver = server.driver
        core = driver.core if driver is not None else None
        if driver is None or core is None:
            return
        lead = core.leadership
        if lead is not None and lead is not server.seen_lead:
            server.seen_lead = lead
            known = self.leaders.setdefault(core.term, server.id)
            if known != server.id:
                self.fail(f"two leaders in term {core.term}: {known}, {server.id}")
            self._complete(server)
        log = core.log
        if log.committed > server.seen_commit:
            for index in range(server.seen_commit + 1, log.committed + 1):
                term = log.term(index)
                if term is not None:
                    self._commit(server, index, term)
            server.seen_commit = log.committed
        if self.leases and driver.is_leader and driver.has_lease():
            self._one_lease(server)

    def _complete(self, server: SimServer) -> None:
        assert server.driver is not None
        core = server.driver.core
        assert core is not None
        log = core.log
        for index in range(max(1, self.newest - COMPARED), self.newest + 1):
            # Late votes may make a leader of a term that others have left.
            if self._commit_terms.get(index, core.term) >= core.term:
                continue
            if index > log.last_index:
                self.fail(f"new leader {server.id} has not the entry {index}")
            elif index >= log.first_index and log.term(index) != self.committed[index]:
                self.fail(f"new leader {server.id} lost the entry {index}")

    def _commit(self, server: SimServer, index: int, term: int) -> None:
        known = self.committed.get(index)
        if known is not None:
            if known != term:
                self.fail(f"committed entry {index} changed: {known}, {term}")
            return
        assert server.driver is not None
        core = server.driver.core
        assert core is not None
        self.committed[index] = term
        self._commit_terms[index] = core.term
        self.newest = max(self.newest, index)
        if core.leadership is None:
            return
        # The newest membership may have come in the same turn, but after it.
        known = core._configurations[-2:]
        newest = known[-1]
        valid = [held for _, held in known if held is newest[1] or newest[0] > index]
        counts = [self._holders(held, index, term) for held in valid]
        if not any(have * 2 > voters for have, voters in counts):
            self.fail(f"entry {index} is committed, but (have, voters) is {counts}")

    def _holders(
        self, configuration: Configuration, index: int, term: int
    ) -> tuple[int, int]:
        have = 0
        voters = configuration.voters()
        for peer in configuration.servers:
            if peer.id in voters:
                # An empty machine answers in place of the member it replaced.
                machine = self.cluster.by_address(peer.address)
                disks = [self.cluster.disks[peer.id]]
                disks += [machine.disk] if machine is not None else []
                have += any(disk.has(index, term) for disk in disks)
        return have, len(voters)

    def _one_lease(self, server: SimServer) -> None:
        for other in self.cluster.servers:
            driver = other.driver
            if other is server or driver is None or other.machine.paused:
                continue
            if driver.is_leader and driver.has_lease():
                self.fail(f"{server.id} and {other.id} both hold a lease")

    # --- the state ---

    def on_command(self, index: int, data: bytes) -> None:
        """A server is about to apply a command."""
        mark = crc32(data)
        if self._commands.setdefault(index, mark) != mark:
            self.fail(f"another command at {index}")

    def on_result(self, index: int, result: object) -> None:
        """A server has applied it."""
        text = f"{type(result).__name__} {result}" if result is not None else ""
        if self._results.setdefault(index, text) != text:
            self.fail(f"another result at {index}: {text}, {self._results[index]}")

    def on_state(self, server: SimServer, index: int, state: StateStore) -> None:
        """Compare the whole state, of commands up to ``index``."""
        self._locks(state)
        digest = hashlib.sha256()
        for chunk in state.snapshot().chunks():
            digest.update(chunk)
        found = digest.digest()
        if self._digests.setdefault(index, found) != found:
            self.fail(f"{server.id} has another state at {index}")

    def _locks(self, state: StateStore) -> None:
        for row in state.kv_list("").value:
            holder = row.record.session
            if holder and state.get_session(holder) is None:
                self.fail(f"{row.record.key} is held by a session that is gone")


class SimFsm:
    """The state store as the driver's FSM, watched."""

    def __init__(self, server: SimServer, state: StateStore) -> None:
        self.server = server
        self.state = state
        self.index = 0
        """The last command applied; 0 for the empty state."""

    def apply(self, index: int, data: bytes) -> Any:
        return self._applied(index, data, lambda: self.state.apply(index, data))

    def apply_chunk(self, index: int, term: int, data: bytes, extensions: bytes) -> Any:
        def apply() -> Any:
            return self.state.apply_chunk(index, term, data, extensions)

        return self._applied(index, extensions + data, apply)

    def _applied(self, index: int, data: bytes, apply: Callable[[], Any]) -> Any:
        checks = self.server.cluster.checks
        checks.on_command(index, data)
        result = apply()
        checks.on_result(index, result)
        self.index = index
        if index % DIGEST_EVERY == 0:
            checks.on_state(self.server, index, self.state)
        return result

    def snapshot(self) -> _View:
        return _View(self.index, self.state.snapshot())

    def restore(self, chunks: Iterable[bytes]) -> None:
        data = b"".join(chunks)
        self.index = int.from_bytes(data[:8], "big")
        self.state.restore([data[8:]])
        checks = self.server.cluster.checks
        checks.installs += bool(self.server.seen_commit)
        checks.on_state(self.server, self.index, self.state)


class _View:
    """A snapshot that says which command it was taken after."""

    def __init__(self, index: int, view: Snapshot) -> None:
        self._index = index
        self._view = view

    def chunks(self) -> Iterable[bytes]:
        yield self._index.to_bytes(8, "big")
        yield from self._view.chunks()
