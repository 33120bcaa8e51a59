"""HCL 1 into plain values: shapes, errors with their places."""

from __future__ import annotations

from typing import Any

import pytest

from pyconsul.config.hcl import HclError, loads


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        ("# a\n// b\n/* c */", {}),
        ("a = 1\nb = true", {"a": 1, "b": True}),
        ("a { b = 1 c = 2 }\na { b = 3 }", {"a": [{"b": 1, "c": 2}, {"b": 3}]}),
        ('a "l" "m" { x = 1 }', {"a": [{"l": [{"m": [{"x": 1}]}]}]}),
        ('a = ["x"]\na = ["y",]', {"a": ["x", "y"]}),
        ("a = [{ b = 1 }, { b = 2 }]", {"a": [{"b": 1}, {"b": 2}]}),
        ("a = 0x10\nb = 010\nc = 1e3", {"a": 16, "b": 8, "c": 1000}),
        ("a = <<X\none\n two\nX\n", {"a": "one\n two\n"}),
        ("a = <<-X\n    one\n  two\n  X\n", {"a": "  one\ntwo\n"}),
        (r'a = "t\tq\" \u00e9"', {"a": 't\tq" é'}),
        ('a = "${x "y"}"', {"a": '${x "y"}'}),
        ('{"a": {"b": [1]}, "c": null,}', {"a": [{"b": [1]}], "c": ""}),
    ],
)
def test_values(text: str, value: dict[str, Any]) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("a: 1", "At 1:2: illegal char"),
        (
            "a = 1\nnope\n",
            "At 3:1: key 'nope' expected start of object ('{') or assignment ('=')",
        ),
        ("a = foo", "At 1:5: Unknown token: 1:5 IDENT foo"),
        (r'a = "\q"', "At 1:7: illegal char escape"),
        ('a = "x\n', "At 1:7: literal not terminated"),
        ("/* a\n", "At 2:1: comment not terminated"),
        ('a = ["x" "y"]', "At 1:10: error parsing list, expected comma or list end"),
        ("a = 1\na { b = 2 }", "At 2:3: root.a: unknown type *ast.ObjectType"),
        ("a = 9223372036854775808", "value out of range"),
        ("a {" * 200, "nested too deeply"),
        ("a = " + "[" * 200, "nested too deeply"),
    ],
)
def test_errors(text: str, error: str) -> None:
    with pytest.raises(HclError) as caught:
        loads(text)
    assert error in str(caught.value)
