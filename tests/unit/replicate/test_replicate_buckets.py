"""Pieces of a tree: every key in exactly one, few and small enough."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pyconsul_replicate.buckets import Piece, cut

TREE = "app/"
NAMES = st.lists(
    st.text(alphabet="ab/k0ü\U0010ffff", max_size=6).map(lambda tail: TREE + tail),
    unique=True,
    max_size=60,
)


@given(NAMES, st.integers(1, 20), st.integers(1, 30))
def test_every_key_is_in_exactly_one_piece(
    names: list[str], target: int, most: int
) -> None:
    names = sorted(names)
    pieces = cut(TREE, names, target=target, most=most)
    assert 1 <= len(pieces) <= most
    for name in names:
        assert sum(piece.covers(name) for piece in pieces) == 1
    assert all(piece.prefix.startswith(TREE) for piece in pieces)


def test_a_small_tree_is_one_piece() -> None:
    assert cut(TREE, [TREE + "a", TREE + "b"]) == [Piece(TREE)]
    assert cut(TREE, []) == [Piece(TREE)]


def test_flat_keys_are_cut_by_their_next_characters() -> None:
    names = [f"app/k{n:05d}" for n in range(10_000)]
    pieces = cut(TREE, names)
    sizes = [sum(map(piece.covers, names)) for piece in pieces]
    assert sum(sizes) == 10_000
    assert 10 <= len(pieces) <= 48
    assert max(sizes) <= 1000


def test_a_key_that_is_also_a_folder_has_a_piece_of_its_own() -> None:
    names = sorted(["app/x", *(f"app/x/{n}" for n in range(9))])
    pieces = cut(TREE, names, target=2)
    assert Piece("app/x", exact=True) in pieces
