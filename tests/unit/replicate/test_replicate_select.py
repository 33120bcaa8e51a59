"""Filter expressions and rewrites of values."""

from __future__ import annotations

from base64 import b64decode, b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul_replicate.content import Content
from pyconsul_replicate.model import Entry, Rules
from pyconsul_replicate.select import MAX_TEXT, compile_select


def entry(key: str = "app/a", value: bytes = b"text", flags: int = 7) -> Entry:
    text = b64encode(value).decode() or None
    return Entry(key=key, modify_index=1, flags=flags, value=text)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("Key == app/a", True),
        ('Key == "app/a"', True),
        ("Key == `app/a`", True),
        ("Key != `app/a`", False),
        ("Flags == 7 and Key contains pp", True),
        ("Flags == 8 or Key contains nope", False),
        ("Flags == 8 or Flags == 7 and Key != x", True),
        ("not Flags == 7", False),
        ("not (Flags == 7 and Value is empty)", True),
        ("not not Value is not empty", True),
        ("Value is empty", False),
        ("ex in Value", True),
        ("ex not in Value", False),
        ('Value matches "^t.*t$"', True),
        ("Value not matches `^t`", False),
        ('Key contains "\\"" or Value == "te\\x\\t"', False),
        ("Value == \"text\" and(Key matches '^')", False),
    ],
)
def test_expressions(text: str, wanted: bool) -> None:
    assert compile_select(text)(entry()) is wanted


def test_values_that_are_empty_or_no_text() -> None:
    assert compile_select("Value is empty")(entry(value=b""))
    assert not compile_select("Value matches `\\w`")(entry(value=b"\xff\xfe"))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("Colour == red", "Colour"),
        ("x in Colour", "Colour"),
        ("Key", "no operator"),
        ("Key is", "empty"),
        ("Key ==", "too early"),
        ("(Key == a", r"missing"),
        ("Key == a b", 'unexpected "b"'),
        ("Key matches `(`", "bad pattern"),
        ('Key == "a', "cannot read"),
        ("not " * 200 + "Key == a", "too deep"),
        ("(" * 200 + "Key == a" + ")" * 200, "too deep"),
        ("Key == " + "a" * MAX_TEXT, "longer"),
    ],
)
def test_what_is_no_expression(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        compile_select(text)


@given(st.text(max_size=60))
def test_any_text_is_an_expression_or_a_named_error(text: str) -> None:
    said = ""
    select = None
    try:
        select = compile_select(text)
    except ValueError as error:
        said = str(error)
    assert bool(said) != (select is not None)
    assert select is None or select(entry()) in (True, False)


def rewritten(value: bytes, *rewrites: tuple[str, str]) -> bytes:
    found = Content(Rules(rewrites=rewrites)).rewritten(entry(value=value))
    return b64decode(found.value or "")


def test_rewrites_in_their_order_over_bytes() -> None:
    assert rewritten(b"dc1 dc1", ("dc1", "dc2"), ("dc2$", "dc3")) == b"dc2 dc3"
    assert rewritten(b"\xff a \x00", ("a", "b")) == b"\xff b \x00"
    assert rewritten("grün".encode(), ("ü", "ue")) == b"gruen"
    swapped = rewritten(b"ab", (r"(?P<x>a)(b)", r"\2\g<x>"))
    assert swapped == b"ba"
    assert rewritten(b"", ("^", "x")) == b""


@pytest.mark.parametrize(
    "rewrite", [("", "x"), ("(", "x"), ("a", r"\1"), ("a", r"\g<no>"), ("a" * 2000, "")]
)
def test_bad_rewrites(rewrite: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match=r"bad rewrite|a match has"):
        Content(Rules(rewrites=(rewrite,)))
