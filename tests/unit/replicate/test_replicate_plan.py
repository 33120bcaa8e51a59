"""The planning core: any two states become equal, and nothing outside changes."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul_replicate.batches import (
    MAX_BODY,
    MAX_OPERATIONS,
    Mark,
    batches,
    conflicts,
    encode,
    indexes,
    room,
    size_of,
    too_large,
)
from pyconsul_replicate.errors import ReplyError
from pyconsul_replicate.model import LOCK_FLAG, SEMAPHORE_FLAG, Entry, Held, Rules
from pyconsul_replicate.model import parse_pair as pair_of
from pyconsul_replicate.plan import (
    Delete,
    Filter,
    Plan,
    Write,
    delete_limit,
    plan,
    plan_changes,
    refusal,
)

RULES = Rules()
KEYS = st.sampled_from(
    [
        *("app", "app/", "app/a", "app/b", "app/sub/c", "app/local/x", "app/tmp"),
        *("app2", "app2/x", "ap", "apq", "other/z", "copy", "copy/a", "copyx/y"),
        *("copy/sub/c", "copy/old", "copy/local/x", "copy2/x", "app/ü"),
    ]
)
VALUES = st.sampled_from([None, "", "MQ==", "Mg=="])
FLAGS = st.sampled_from([0, 0, 0, 7, LOCK_FLAG, SEMAPHORE_FLAG, 2**64 - 1])
SESSIONS = st.sampled_from(["", "", "", "s"])
WORDS = st.sampled_from(
    [
        *("app@dc1", "app/@dc1", "app@dc1:copy", "app/@dc1:copy/", "app/@dc1:copy"),
        *("key:app/a@dc1", "key:app/a@dc1:copy/a", "app/sub@dc1:copy", "/@dc1"),
    ]
)
RULE_SETS = st.builds(
    Rules,
    excludes=st.sampled_from([(), ("app/local/",), ("app/su", "app/b")]),
    patterns=st.sampled_from([(), ("*/tmp",), ("re:app/.$",)]),
    delete=st.booleans(),
    own=st.sampled_from(["", "app/sub", "copy/sub/"]),
)
State = dict[str, Entry]


def entry(key: str, value: str | None = "MQ==", **more: object) -> Entry:
    given: dict[str, object] = {"modify_index": 5, **more}
    return Entry(key=key, value=value, **given)  # pyright: ignore[reportArgumentType]


@st.composite
def states(draw: st.DrawFn) -> State:
    keys = draw(st.sets(KEYS))
    return {
        key: entry(
            key,
            draw(VALUES),
            flags=draw(FLAGS),
            session=draw(SESSIONS),
            modify_index=draw(st.integers(1, 50)),
        )
        for key in keys
    }


def apply(state: State, done: Plan) -> State:
    """Do what a transaction of conditional operations does."""
    new = dict(state)
    for write in done.writes:
        there = new.get(write.key)
        assert (there.modify_index if there else 0) == write.index
        new[write.key] = entry(
            write.key, write.value, flags=write.flags, modify_index=99
        )
    for delete in done.deletes:
        assert new[delete.key].modify_index == delete.index
        del new[delete.key]
    return new


def copied(item: Entry) -> bool:
    return not item.session and item.flags not in (LOCK_FLAG, SEMAPHORE_FLAG)


@given(states(), states(), WORDS, RULE_SETS)
def test_it_converges_and_leaves_the_rest_alone(
    source: State, destination: State, word: str, rules: Rules
) -> None:
    pair = pair_of(word)
    accept = Filter(pair, rules)
    first = plan(pair, rules, source.values(), destination)
    after = apply(destination, first)
    again = plan(pair, rules, source.values(), after)
    assert not again.writes
    assert not again.deletes
    for key, item in source.items():
        if not accept.takes(key) or not copied(item):
            continue
        target = pair.to_destination(key)
        held = target in destination and destination[target].session
        assert held or after[target].same_content(item)
    for key in destination.keys() | after.keys():
        mine = pair.covers_destination(key) and accept.takes(pair.to_source(key))
        locked = key in destination and destination[key].session
        if not mine or locked:
            assert after.get(key) == destination.get(key), key
        elif rules.delete and pair.to_source(key) not in source:
            assert key not in after or destination[key].is_lock
    if not rules.delete:
        assert destination.keys() <= after.keys()


@given(states(), states(), states(), WORDS, RULE_SETS)
def test_changes_lead_where_a_full_pass_leads(
    before: State, after: State, destination: State, word: str, rules: Rules
) -> None:
    pair = pair_of(word)
    accept = Filter(pair, rules)
    there = apply(destination, plan(pair, rules, before.values(), destination))
    held = {key: Held(e.modify_index, bool(e.session)) for key, e in there.items()}
    changed = [e for key, e in after.items() if before.get(key) != e]
    removed = [key for key in before.keys() - after.keys() if accept.takes(key)]
    small = plan_changes(pair, rules, changed, removed, held, accept)
    full = plan(pair, rules, after.values(), there)
    # A full pass also repairs; whatever it writes and deletes is in the small one,
    # but for what was held back before.
    assert {w.key for w in full.writes} <= {w.key for w in small.writes}
    assert not {d.key for d in small.deletes} & {w.key for w in small.writes}
    for delete in small.deletes:
        assert accept.governs(delete.key)
        assert pair.to_source(delete.key) not in after
    for write in small.writes:
        assert accept.governs(write.key)


@pytest.mark.parametrize(
    ("word", "inside", "outside"),
    [
        ("rp@dc1:rd", ["rp", "rp/x", "rp/"], ["rp2", "rp2/y", "r", "rpx/y"]),
        ("rp/@dc1:rd/", ["rp/", "rp/x"], ["rp", "rp2/y"]),
        ("key:rp@dc1", ["rp"], ["rp/", "rp/x", "rpx"]),
        ("/@dc1", ["x", "x/y", ""], []),
    ],
)
def test_whole_segments(word: str, inside: list[str], outside: list[str]) -> None:
    pair = pair_of(word)
    assert all(map(pair.covers_source, inside))
    assert not any(map(pair.covers_source, outside))


def test_slashes_of_both_sides_are_made_equal() -> None:
    pair = pair_of("app/@dc1:copy")
    assert pair.to_destination("app/x") == "copy/x"
    assert pair.to_source("copy/x") == "app/x"
    assert pair_of("/app@dc1").to_destination("app/x") == "app/x"


def test_the_status_keys_are_the_reference_tools() -> None:
    name = pair_of("app/@dc1").status_name
    assert name == "ad385fbcaf36f5d8f16b3323aed53ba8"
    name = pair_of("other/@dc1:moved/").status_name
    assert name == "548f6c600b14398aa4bbe75a5ca9b40b"


@pytest.mark.parametrize("word", ["@dc1", "app@", "", "key:a/@dc1", "key:/@dc1"])
def test_a_prefix_that_is_none(word: str) -> None:
    with pytest.raises(ValueError, match=r"missing|not the name"):
        pair_of(word)


def test_status_keys_are_never_data() -> None:
    rules = Rules(own="service/statuses")
    accept = Filter(pair_of("/@dc1"), rules)
    assert accept.takes("service/x")
    assert not accept.takes("service/statuses/abc")
    assert not accept.governs("service/statuses/abc")
    assert not Filter(pair_of("a/@dc1:service/"), rules).takes("a/statuses/abc")


@pytest.mark.parametrize("pattern", ["re:(", "x" * 2000])
def test_a_bad_pattern_is_named(pattern: str) -> None:
    with pytest.raises(ValueError, match="pattern"):
        Rules(patterns=(pattern,)).matcher()


def reason(**given: int) -> str:
    facts = {
        "deletes": 1, "source_keys": 5, "destination_keys": 10,
        "source_index": 9, "last_index": 9, "recent": 0,
    } | given  # fmt: skip
    return refusal(
        pair_of("app/@dc1"), RULES,
        deletes=facts["deletes"], source_keys=facts["source_keys"],
        destination_keys=facts["destination_keys"],
        source_index=facts["source_index"], last_index=facts["last_index"],
        recent=facts["recent"],
    )  # fmt: skip


def test_deletes_that_may_not_happen() -> None:
    assert not reason()
    assert not reason(deletes=0, source_keys=0)
    assert "empty" in reason(source_keys=0)
    assert "was at 9" in reason(source_index=8)
    assert not reason(deletes=100)
    assert "the limit is 100" in reason(deletes=101)
    assert not reason(deletes=101, destination_keys=2000)
    permitted = Rules(allow_mass_delete=True)
    assert not refusal(
        pair_of("app/@dc1"), permitted, deletes=9000, source_keys=0,
        destination_keys=9000, source_index=1, last_index=9,
    )  # fmt: skip


def test_the_limit_of_deletes() -> None:
    assert delete_limit(Rules(max_deletes=3), 10_000) == 3
    assert delete_limit(Rules(max_deletes=0), 10_000) == 0
    assert delete_limit(RULES, 10_000) == 1000


def write(key: str, size: int = 4) -> Write:
    return Write(key, "A" * size, 3, 7, 9)


@given(st.lists(st.tuples(st.text(max_size=9), st.integers(0, MAX_BODY // 3))))
def test_batches_keep_order_and_limits(rows: list[tuple[str, int]]) -> None:
    operations = [write(key, size) for key, size in rows]
    found = list(batches(operations))
    assert [item for batch in found for item in batch] == operations
    for batch in found:
        assert len(batch) <= MAX_OPERATIONS
        assert len(encode(batch)) <= MAX_BODY


@given(st.text(max_size=60), st.binary(max_size=60))
def test_the_size_is_never_underestimated(key: str, value: bytes) -> None:
    operation = Write(key, b64encode(value).decode(), 2**64 - 1, 2**63, 1)
    assert len(encode([operation])) <= size_of(operation) + 2


def test_what_no_transaction_can_carry() -> None:
    assert too_large(write("k", MAX_BODY))
    assert not too_large(write("k", MAX_BODY // 2))
    mark = Mark("status", "AAAA")
    assert room([write("k")], mark)
    assert not room([write("k")] * MAX_OPERATIONS, mark)
    assert not room([write("k", MAX_BODY - 200)], mark)


def test_a_transaction_on_the_wire() -> None:
    body = encode([write("a"), Delete("b", 4)], Mark("s", "e30="))
    assert body == (
        b'[{"KV":{"verb":"cas","key":"a","value":"AAAA","flags":3,"index":7}},'
        b'{"KV":{"verb":"delete-cas","key":"b","index":4}},'
        b'{"KV":{"verb":"set","key":"s","value":"e30="}}]'
    ).replace(b'"verb"', b'"Verb"').replace(b'"key"', b'"Key"').replace(
        b'"value"', b'"Value"'
    ).replace(b'"flags"', b'"Flags"').replace(b'"index"', b'"Index"')


def test_answers_of_transactions() -> None:
    good = b'{"Results":[{"KV":{"Key":"a","ModifyIndex":12,"Flags":0}}],"Errors":null}'
    assert indexes(good) == {"a": 12}
    bad = b'{"Results":null,"Errors":[{"OpIndex":3,"What":"index is stale"}]}'
    assert conflicts(bad) == {3: "index is stale"}
    with pytest.raises(ReplyError):
        indexes(b"oops")
