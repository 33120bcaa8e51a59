from __future__ import annotations

import pytest
from state_help import Log, image, uuid

from pyconsul.types.errors import CommandError
from pyconsul.types.records import DirEntry


def entry(log: Log, key: str) -> DirEntry:
    row = log.store.get_key(key)
    assert row is not None
    return row.record


def locking() -> Log:
    log = Log()
    log.register("n")
    for number in (1, 2):
        assert log.session(number, "n", lock_delay=5) == uuid(number)
    return log


def test_set_creates_then_updates():
    log = Log()
    assert log.set("a", b"1", flags=7) is True
    assert entry(log, "a") == DirEntry(
        key="a", value=b"1", flags=7, create_index=1, modify_index=1
    )
    assert log.set("a", b"2") is True
    assert entry(log, "a") == DirEntry(
        key="a", value=b"2", create_index=1, modify_index=2
    )


def test_an_equal_set_moves_no_index_and_keeps_the_row():
    log = Log()
    log.set("a", b"1")
    row = log.store.get_key("a")
    log.set("a", b"1")
    assert log.store.get_key("a") is row
    assert log.store.table_index("kvs") == 1


def test_cas():
    log = Log()
    assert log.kv("cas", "a", b"1", modify_index=4) is False
    assert log.kv("cas", "a", b"1") is True
    assert log.kv("cas", "a", b"2") is False
    assert log.kv("cas", "a", b"2", modify_index=2) is True
    assert entry(log, "a").value == b"2"


def test_delete_and_delete_cas():
    log = Log()
    log.set("a")
    assert log.kv("delete", "none") is True
    assert log.store.table_index("kvs", "tombstones") == 1
    assert log.kv("delete-cas", "none", modify_index=9) is True
    assert log.kv("delete-cas", "a", modify_index=9) is False
    assert log.kv("delete-cas", "a", modify_index=1) is True
    assert log.store.kv_get("a").value is None
    assert log.store.kv_get("a").index == log.index


def test_locks_count_and_exclude():
    log = locking()
    one, two = uuid(1), uuid(2)
    assert log.kv("lock", "l", b"1", session=one) is True
    assert log.kv("lock", "l", b"2", session=two) is False
    assert log.kv("lock", "l", b"again", session=one) is True
    assert entry(log, "l").lock_index == 1
    assert log.kv("unlock", "l", session=two) is False
    assert log.kv("unlock", "l", b"free", session=one) is True
    assert (entry(log, "l").session, entry(log, "l").value) == ("", b"free")
    assert log.kv("unlock", "l", session=one) is False
    assert log.kv("lock", "l", b"2", session=two) is True
    assert entry(log, "l").lock_index == 2
    log.set("l", b"plain")
    assert (entry(log, "l").session, entry(log, "l").lock_index) == (two, 0)
    assert log.kv("delete", "l") is True


@pytest.mark.parametrize(
    ("session", "text"),
    [
        ("", "missing session"),
        (uuid(9), f'invalid session "{uuid(9)}"'),
        ("x", "failed session lookup: index error: UUID must be 36 characters"),
    ],
)
def test_lock_refusals_change_nothing(session: str, text: str):
    log = locking()
    before = image(log.store)
    refused = log.kv("lock", "l", session=session)
    assert isinstance(refused, CommandError)
    assert str(refused) == text
    assert image(log.store) == before


def test_keys_roll_up_at_the_separator():
    log = Log()
    for key in ("d/b/1", "d/b/2", "d/x", "e", "d/c/1"):
        log.set(key)
    assert log.store.kv_keys("d/", "/").value == ["d/b/", "d/c/", "d/x"]
    assert log.store.kv_keys("", "/").value == ["d/", "e"]
    assert log.store.kv_keys("d/").value == ["d/b/1", "d/b/2", "d/c/1", "d/x"]
    # Rolled-up keys count for the index.
    assert log.store.kv_keys("d/", "/").index == 5


def test_prefix_indexes():
    log = Log()
    assert log.store.kv_list("p/").index == 1
    log.set("p/a")  # 1
    log.set("q")  # 2
    assert log.store.kv_list("p/").index == 1
    assert log.store.kv_list("").index == 2
    assert log.store.kv_list("none/").index == 2
    log.set("p/b")  # 3
    log.kv("delete", "p/b")  # 4
    log.set("q", b"2")  # 5
    assert log.store.kv_list("p/").index == 4
    log.kv("delete-tree", "p/")  # 6
    assert log.store.tombstone_max() == 6
    log.set("q", b"3")  # 7
    assert log.store.kv_list("p/").index == 6
    log.reap(6)  # 8
    assert log.store.tombstone_max() == 0
    assert log.store.kv_list("p/").index == 7


@pytest.mark.parametrize("reaped", [2, 8])
def test_reaping_few_or_most_tombstones_keeps_the_rest(reaped: int):
    log = Log()
    for number in range(10):
        log.set(f"p/{number}")  # 1..10
    for number in range(10):
        log.kv("delete", f"p/{number}")  # 11..20
    log.set("q")  # 21
    log.reap(10 + reaped)  # 22
    assert log.store.tombstone_max() == 20
    for number in range(10):
        # Who asks for what is reaped is told the index of the whole table.
        expected = 21 if number < reaped else 11 + number
        assert log.store.kv_list(f"p/{number}").index == expected


def test_deleting_everything_leaves_no_tombstone():
    log = Log()
    log.set("a")
    log.set("b")
    assert log.kv("delete-tree", "") is True
    assert log.store.kv_list("").value == []
    assert log.store.kv_list("").index == 3
    assert log.store.tombstone_max() == 0
    assert log.kv("delete-tree", "") is True
    assert log.store.kv_list("").index == 3


@pytest.mark.parametrize("command", [b"", b"\x02", b"\x02\xc1", b"\x02\xa1x", b"\x63"])
def test_a_malformed_command_is_refused(command: bytes):
    assert isinstance(Log().apply(command), CommandError)


def test_an_unknown_command_may_be_skipped_by_its_flag():
    assert Log().apply(b"\xe3\xc0") is None
    assert Log().apply(b"\x86\x90") is None
