"""Conversations between servers, as text: ``tests/data/raft/*.txt``.

A file is a paragraph on why, then commands, each with what it must print after
``----``. ``pytest --rewrite tests/unit/raft`` writes what was observed.

    cluster A B C [nonvoters=D]   new cluster; virtual clock at 0
    tick A SECONDS                advance the clock, tick A
    propose A TEXT                propose a command
    ready A [nopersist]           handle one Ready; nopersist keeps it unsynced
    persist A                     what was kept is durable now
    deliver [A>B] [drop]          deliver (or lose) waiting messages
    settle                        handle and deliver until quiet
    read A NUMBER                 ask for a read index
    transfer A B                  hand leadership over
    voter|nonvoter|remove A B     let A propose that change about B
    compact A KEEP                snapshot what A has applied, keep KEEP entries
    broken A>B retry|later        A's appends to B were lost with the connection
    wipe B                        B restarts with an empty disk
    lease A                       tell whether A has a lease
    state                         print every server
"""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest

from pyconsul.raft.core import Raft
from pyconsul.raft.log import RaftLog
from pyconsul.raft.messages import (
    NONVOTER,
    VOTER,
    AppendRequest,
    AppendResponse,
    Configuration,
    ConfigurationError,
    Entry,
    HeartbeatRequest,
    HeartbeatResponse,
    Message,
    NotLeaderError,
    Peer,
    Ready,
    Settings,
    SnapshotMeta,
    SnapshotRequest,
    VoteRequest,
    VoteResponse,
)

DATA = Path(__file__).parents[2] / "data" / "raft"
TYPES = {0: "cmd", 1: "noop", 4: "barrier", 5: "conf"}


class NoReader:
    def read(self, first: int, last: int, max_bytes: int) -> list[Entry]:
        raise AssertionError("these short logs stay in memory")


class Draw(random.Random):
    """Every election timeout is the shortest."""

    def random(self) -> float:
        return 0.0


def show_entry(entry: Entry) -> str:
    text = entry.data.decode() if entry.type == 0 else ""
    return f"{entry.term}/{entry.index}:{TYPES[entry.type]}{' ' + text if text else ''}"


def show(m: Message) -> str:
    head = f"{m.sender}>{m.target} {type(m).__name__} term={m.term}"
    match m:
        case AppendRequest():
            body = ", ".join(show_entry(e) for e in m.entries)
            return (
                f"{head} prev={m.prev_term}/{m.prev_index} commit={m.commit} [{body}]"
            )
        case AppendResponse(success=True):
            return f"{head} ok index={m.index}"
        case AppendResponse():
            return f"{head} refused={m.index} hint={m.hint_index}"
        case HeartbeatRequest():
            return f"{head} round={m.round}"
        case HeartbeatResponse():
            return f"{head} round={m.round}"
        case VoteRequest():
            kind = " pre" if m.pre else (" transfer" if m.transfer else "")
            return f"{head}{kind} last={m.last_term}/{m.last_index}"
        case VoteResponse():
            kind = " pre" if m.pre else ""
            return f"{head}{kind} {'granted' if m.granted else 'refused'}"
        case SnapshotRequest():
            return f"{head} at={m.meta.term}/{m.meta.index}"
        case _:
            return head


class Stage:
    def __init__(self) -> None:
        self.now = 0.0
        self.cores: dict[str, Raft] = {}
        self.wire: list[Message] = []
        self.kept: dict[str, list[Ready]] = {}
        self.out: list[str] = []

    def do(self, line: str) -> str:
        self.out = []
        name, *args = line.split()
        try:
            getattr(self, f"do_{name}")(*args)
        except (NotLeaderError, ConfigurationError) as error:
            self.out.append(f"{type(error).__name__}: {error}".rstrip(": "))
        return "\n".join(self.out) or "ok"

    def do_cluster(self, *args: str) -> None:
        names = [(a, VOTER) for a in args if "=" not in a]
        for arg in args:
            if arg.startswith("nonvoters="):
                names += [(a, NONVOTER) for a in arg.split("=")[1].split(",")]
        configuration = Configuration(
            servers=tuple(Peer(id=n, address=n, suffrage=s) for n, s in names)
        )
        for name, _ in names:
            self.cores[name] = Raft(
                name,
                RaftLog(NoReader()),
                configurations=[(0, configuration)],
                settings=Settings(commit_interval=0.0),
                rng=Draw(),
                now=0.0,
            )
            self.kept[name] = []

    def do_tick(self, name: str, seconds: str) -> None:
        self.now = round(self.now + float(seconds), 3)
        self.cores[name].tick(self.now)
        self.note_role(name)

    def note_role(self, name: str) -> None:
        core = self.cores[name]
        leader = core.leader_id or "none"
        self.out.append(f"{name} {core.role.value} term={core.term} leader={leader}")

    def do_propose(self, name: str, text: str) -> None:
        self.out.append(f"index {self.cores[name].propose(text.encode())}")

    def do_ready(self, name: str, mode: str = "") -> None:
        ready = self.cores[name].ready()
        if ready is None:
            self.out.append("nothing")
            return
        self.handle(name, ready, persist=mode != "nopersist")

    def handle(self, name: str, ready: Ready, *, persist: bool) -> None:
        core = self.cores[name]
        for message in ready.messages:
            self.out.append(f"send {show(message)}")
        self.wire += ready.messages
        if ready.snapshot is not None:
            self.out.append(f"install snapshot {ready.snapshot.meta.index}")
        if ready.hard_state is not None:
            state = ready.hard_state
            self.out.append(f"persist term={state.term} vote={state.vote or 'none'}")
        for entry in ready.entries:
            self.out.append(f"persist {show_entry(entry)}")
        for entry in ready.committed:
            self.out.append(f"apply {show_entry(entry)}")
        for read in ready.reads:
            self.out.append(f"read {read.context} at index {read.index}")
        if ready.committed:
            core.applied_to(ready.committed[-1].index)
        if persist and not self.kept[name]:
            self.finish(name, ready)
        else:
            self.kept[name].append(ready)

    def finish(self, name: str, ready: Ready) -> None:
        self.cores[name].persisted(ready)
        for message in ready.after_persist:
            self.out.append(f"then send {show(message)}")
        self.wire += ready.after_persist

    def do_persist(self, name: str) -> None:
        kept, self.kept[name] = self.kept[name], []
        for ready in kept:
            self.finish(name, ready)

    def do_deliver(self, *args: str) -> None:
        lose = "drop" in args
        route = next((a for a in args if ">" in a), None)
        waiting, self.wire = self.wire, []
        for message in waiting:
            if route and route != f"{message.sender}>{message.target}":
                self.wire.append(message)
                continue
            verb = "lose" if lose else "deliver"
            self.out.append(f"{verb} {show(message)}")
            if not lose:
                self.step(message)

    def step(self, message: Message) -> None:
        core = self.cores[message.target]
        before = (core.role, core.term)
        core.step(message, self.now)
        if (core.role, core.term) != before:
            self.note_role(message.target)

    def do_settle(self) -> None:
        for _ in range(50):
            busy = False
            for name, core in self.cores.items():
                while (ready := core.ready()) is not None:
                    busy = True
                    self.handle(name, ready, persist=True)
            waiting, self.wire = self.wire, []
            for message in waiting:
                busy = True
                self.step(message)
            if not busy:
                return
        raise AssertionError("the cluster does not come to rest")

    def do_read(self, name: str, context: str) -> None:
        self.cores[name].read_index(int(context))

    def do_transfer(self, name: str, target: str) -> None:
        self.cores[name].transfer_leadership(target)

    def do_voter(self, name: str, peer: str) -> None:
        self.change(name, Peer(id=peer, address=peer))

    def do_nonvoter(self, name: str, peer: str) -> None:
        self.change(name, Peer(id=peer, address=peer, suffrage=NONVOTER))

    def change(self, name: str, peer: Peer) -> None:
        core = self.cores[name]
        index = core.change_configuration(core.configuration.with_server(peer))
        self.out.append(f"index {index}")

    def do_remove(self, name: str, peer: str) -> None:
        core = self.cores[name]
        index = core.change_configuration(core.configuration.without(peer))
        self.out.append(f"index {index}")

    def do_compact(self, name: str, keep: str) -> None:
        core = self.cores[name]
        index = core.log.applied
        term = core.log.term(index)
        assert term is not None
        where, configuration = core.applied_configuration()
        meta = SnapshotMeta(
            index=index,
            term=term,
            configuration=configuration,
            configuration_index=where,
        )
        core.compact(meta, index - int(keep) + 1)
        self.out.append(f"first index {core.log.first_index}")

    def do_broken(self, route: str, mode: str) -> None:
        name, peer = route.split(">")
        self.cores[name].appends_lost(peer, retry=mode == "retry")

    def do_wipe(self, name: str) -> None:
        self.cores[name] = Raft(
            name,
            RaftLog(NoReader()),
            settings=Settings(commit_interval=0.0),
            rng=Draw(),
            now=self.now,
        )
        self.kept[name] = []

    def do_lease(self, name: str) -> None:
        self.out.append("yes" if self.cores[name].has_lease(self.now) else "no")

    def do_state(self) -> None:
        for name, core in self.cores.items():
            log = core.log
            self.out.append(
                f"{name} {core.role.value} term={core.term} last={log.last_term}/"
                f"{log.last_index} commit={log.committed} applied={log.applied}"
            )


def replay(text: str) -> str:
    """Return the file as it should be, from its own commands."""
    stage = Stage()
    blocks: list[str] = []
    for block in text.strip().split("\n\n"):
        if block.startswith("#"):
            blocks.append(block)
            continue
        command = block.split("\n", 1)[0]
        blocks.append(f"{command}\n----\n{stage.do(command)}")
    return "\n\n".join(blocks) + "\n"


@pytest.mark.parametrize("path", sorted(DATA.glob("*.txt")), ids=lambda p: p.stem)
def test_conversation(path: Path, rewrite: bool) -> None:
    expected = path.read_text()
    observed = replay(expected)
    if rewrite:
        path.write_text(observed)
    else:
        assert observed == expected


def test_there_are_conversations() -> None:
    assert len(list(DATA.glob("*.txt"))) >= 8


def test_messages_survive_the_wire() -> None:
    message = AppendRequest(
        sender="a",
        target="b",
        term=2,
        prev_index=1,
        prev_term=1,
        entries=[Entry(2, 2, 0, b"x")],
    )
    encoded = msgspec.msgpack.encode(message)
    assert msgspec.msgpack.decode(encoded, type=AppendRequest) == message
