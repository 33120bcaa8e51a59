from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from state_help import Log, image, uuid

from pyconsul.state.archive import (
    ArchiveError,
    SnapshotMeta,
    read_archive,
    write_archive,
)
from pyconsul.state.store import StateStore
from pyconsul.types.gomsgpack import MsgpackError

DATA = Path(__file__).parents[2] / "data" / "state" / "snapshot.json"
VECTORS: dict[str, Any] = json.loads(DATA.read_text())
REAL = base64.b64decode(VECTORS["archive_base64"])
MINI = base64.b64decode(VECTORS["mini_archive_base64"])
LIMIT = 1 << 20


def test_a_real_archive_is_restored_and_written_byte_for_byte():
    meta, state = read_archive(REAL, LIMIT)
    assert (meta.index, meta.term) == (21, 2)
    store = StateStore()
    store.restore([state[i : i + 100] for i in range(0, len(state), 100)])
    assert image(store) == state
    records = [bytes.fromhex(record["hex"]) for record in VECTORS["records"]]
    assert b"".join(records) == state
    assert store.kv_get("a/b").value.record.value == b"v1"
    assert store.services().value == {"consul": [], "db": ["primary"]}
    assert store.service_nodes("consul").index == 9
    assert store.tombstone_max() == 13
    assert store.snapshot().last_index == 21


def test_a_sparse_archive_gets_its_indexes_from_the_records():
    _, state = read_archive(MINI, LIMIT)
    store = StateStore()
    store.restore([state])
    (node,) = [row.record for row in store.nodes().value]
    assert node.modify_index == store.nodes().index > 1
    assert store.services().value
    assert store.kv_list("").value


def storm() -> Log:
    log = Log()
    log.service("n1", "Web", tags=["a"], port=1)
    log.service("n1", "px", kind="connect-proxy", proxy={"DestinationServiceName": "W"})
    log.check("n1", "c", "passing", "Web")
    log.service("n2", "db")
    log.deregister("n2", service_id="db")
    log.session(1, "n1", node_checks=["c"])
    log.kv("lock", "l", b"1", session=uuid(1))
    for number in range(2500):
        log.set(f"k/{number}", bytes([number % 256]))
    log.kv("delete", "k/7")
    return log


def test_restore_gives_an_equal_store_that_goes_on_alike():
    log, other = storm(), Log()
    other.store.restore(log.store.snapshot().chunks())
    other.index = log.index
    reads = (
        lambda s: s.service_nodes("web").index,
        lambda s: s.service_nodes("w", connect=True).index,
        lambda s: s.service_nodes("db").index,
        lambda s: s.kv_keys("k/").value,
        lambda s: s.sessions().value,
        lambda s: [row.record for row in s.check_service_nodes("web").value],
    )
    for read in reads:
        assert read(other.store) == read(log.store)
    for each in (log, other):
        each.deregister("n1", check_id="c")
    assert image(other.store) == image(log.store)
    row = other.store.get_key("l")
    assert row is not None
    assert row.record.session == ""


def test_a_snapshot_is_of_its_moment():
    log = storm()
    before = image(log.store)
    snapshot = log.store.snapshot()
    chunks = snapshot.chunks()
    first = next(chunks)
    log.set("k/1", b"later")
    log.kv("delete-tree", "k/")
    log.deregister("n1")
    log.reap(log.index)
    assert first + b"".join(chunks) == before
    assert image(log.store) != before


@pytest.mark.parametrize("damage", ["empty", "cut", "type only", "no map", "garbage"])
def test_a_damaged_state_changes_nothing(damage: str):
    log = storm()
    state = image(log.store)
    bad = {
        "empty": b"",
        "cut": state[:-1000],
        "type only": state + b"\x02",
        "no map": state + b"\x02\x01",
        "garbage": state + b"\xc1\xc1",
    }[damage]
    with pytest.raises(MsgpackError):
        log.store.restore([bad])
    assert image(log.store) == state


def test_newer_record_types_are_skipped():
    log = storm()
    state = image(log.store)
    store = StateStore()
    store.restore([state, b"\x22\x81\xa1a\x01"])
    assert image(store) == state


def test_an_archive_is_read_back_and_ends_with_two_zero_blocks():
    meta = SnapshotMeta(id="2-5-1", index=5, term=2)
    data = write_archive(meta, b"state")
    read, state = read_archive(data, LIMIT)
    assert state == b"state"
    assert (read.index, read.term, read.size) == (5, 2, 5)
    tar = gzip.decompress(data)
    assert tar[-1024:] == bytes(1024)
    assert tar[-1025] != 0 or tar[-1536:-1024] != bytes(512)
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        names = archive.getnames()
        assert {member.mode for member in archive} == {0o600}
    assert names == ["meta.json", "state.bin", "SHA256SUMS"]


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def parts(state: bytes = b"s", meta: bytes = b'{"Size":1}') -> dict[str, bytes]:
    sums = "".join(
        f"{hashlib.sha256(data).hexdigest()}  {name}\n"
        for name, data in (("state.bin", state), ("meta.json", meta))
    )
    return {"meta.json": meta, "state.bin": state, "SHA256SUMS": sums.encode()}


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "failed to decompress snapshot: EOF"),
        (b"not gzip", "failed to decompress snapshot: unexpected EOF"),
        (b"not gzip at all", "failed to decompress snapshot: gzip: invalid header"),
        (REAL[:-400], "failed reading snapshot: unexpected EOF"),
        (gzip.compress(bytes(5), mtime=0), "unexpected EOF"),
        (gzip.compress(b"x" * 512, mtime=0), "archive/tar: invalid tar header"),
        (packed(parts()), "^failed to conclude snapshot: [0-9]+ unread uncompressed"),
        (REAL[:-8] + bytes(8), "gzip: invalid checksum"),
        (packed(parts() | {"X": b""}), 'unexpected file "X" in snapshot'),
        (packed(parts() | {"state.bin": b"t"}), "hash check failed"),
        (packed({"meta.json": b"{}"}), "missing"),
        (packed(parts(meta=b"{")), "metadata"),
        (packed(parts(state=b"ss")), "another size"),
        (packed(parts(state=bytes(LIMIT + 1))), "too large"),
    ],
)
def test_a_bad_archive_is_refused(data: bytes, text: str):
    with pytest.raises(ArchiveError, match=text):
        read_archive(data, LIMIT)
