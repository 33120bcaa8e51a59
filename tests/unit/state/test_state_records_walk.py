"""Inspecting and checking ``state.bin``."""

from __future__ import annotations

import base64
import gc
import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from pyconsul.state.archive import (
    SnapshotMeta,
    read_archive,
    read_archive_file,
    write_archive_file,
)
from pyconsul.state.catalog import Catalog
from pyconsul.state.catalog_rows import Group, Instance, NodeEntry
from pyconsul.state.kv import KVTable
from pyconsul.state.records_walk import Summary, by_size, check_state, records
from pyconsul.state.store import StateStore
from pyconsul.state.tables import Tables
from pyconsul.types.gomsgpack import MsgpackError, pack

DATA = Path(__file__).parents[2] / "data" / "state" / "snapshot.json"
VECTORS: dict[str, Any] = json.loads(DATA.read_text())
REAL = read_archive(base64.b64decode(VECTORS["archive_base64"]), 1 << 20)[1]


def test_every_record_of_a_real_archive_has_its_name_and_size():
    found = list(records(REAL[at : at + 7] for at in range(0, len(REAL), 7)))
    expected = VECTORS["records"]
    assert [one.name for one in found] == [one["name"] for one in expected[1:]]
    sizes = [len(bytes.fromhex(one["hex"])) for one in expected]
    # The header counts for the first record.
    assert [one.size for one in found] == [sizes[0] + sizes[1], *sizes[2:]]


def test_a_summary_adds_up():
    summary = Summary(details=True, depth=1).add_all([REAL])
    assert summary.total == len(REAL)
    assert sum(share.sum for share in summary.types.values()) == len(REAL)
    assert summary.total_keys == summary.types["KVS"].sum
    assert sum(k.count for k in summary.keys.values()) == summary.types["KVS"].count
    assert all("/" not in name for name in summary.keys)
    sums = [share.sum for share in by_size(summary.types)]
    assert sums == sorted(sums, reverse=True)


def test_keys_are_cut_and_selected():
    def entry(key: str) -> bytes:
        return b"\x02" + pack({"Key": key})

    state = pack({"LastIndex": 1}) + entry("a/b/c") + entry("a/b/d") + entry("x/y/z")
    summary = Summary(details=True, depth=2, prefix="a/").add_all([state])
    assert {name: share.count for name, share in summary.keys.items()} == {"a/b": 2}
    assert summary.types["KVS"].count == 3
    assert not Summary().add_all([state]).keys


def test_a_real_state_can_be_restored():
    check_state([REAL])


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (b"", "no header"),
        (REAL[:-1], "end of data|without a type or a body"),
        (pack({"LastIndex": 1}) + b"\x4d" + pack({}), "Unrecognized msg type 77"),
        (pack({"LastIndex": 1}) + b"\x02" + pack("text"), "."),
        (pack({"LastIndex": 1}) + b"\x00" + pack([1]), "no map"),
        (pack({"LastIndex": 1}) + b"\x03" + pack({"ID": [1]}), "."),
        (pack({"LastIndex": 1}) + b"\x02", "without a type or a body"),
        (pack({"LastIndex": 1}) + b"\xc1", "decode error"),
    ],
)
def test_a_state_that_cannot_be_restored_is_refused(state: bytes, text: str):
    with pytest.raises(MsgpackError, match=text):
        check_state([state])


def test_records_of_later_versions_are_skipped():
    state = pack({"LastIndex": 1}) + b"\x22" + pack({"Kind": "typical"})
    check_state([state])
    assert [one.name for one in records([state])] == ["KindServiceNames"]


def test_an_archive_of_many_pieces_comes_back():
    state = bytes(range(256)) * 20_000  # several pieces, not a multiple of a block
    source, archive, back = io.BytesIO(state + b"tail"), io.BytesIO(), io.BytesIO()
    write_archive_file(SnapshotMeta(index=3, term=1), source, archive)
    archive.seek(0)
    meta = read_archive_file(archive, back)
    assert meta.size == len(state) + 4
    assert back.getvalue() == state + b"tail"


def test_a_state_is_prepared_before_it_replaces_anything():
    store = StateStore()
    with pytest.raises(MsgpackError):
        store.prepare([REAL[:-1]])
    take = store.prepare([REAL])
    assert store.kv_get("a/b").value is None
    take()
    assert store.kv_get("a/b").value.record.value == b"v1"


def test_replaced_and_checked_states_leave_nothing_behind():
    def left() -> Counter[type]:
        kinds = (Tables, KVTable, Catalog, NodeEntry, Instance, Group)
        return Counter(type(one) for one in gc.get_objects() if isinstance(one, kinds))

    gc.collect()
    before = left()
    gc.disable()  # after a server has frozen its objects it finds none of these
    try:
        store = StateStore()
        store.restore([REAL])
        one_state = left() - before
        assert one_state[NodeEntry]
        assert one_state[Instance]
        store.restore([REAL])
        check_state([REAL])
        assert left() - before == one_state
        store.free()
        del store
        assert left() == before
    finally:
        gc.enable()
