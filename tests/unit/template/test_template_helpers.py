"""Helper functions: results as observed from consul-template 0.20.1."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pyconsul_template.helpers import HELPERS, HelperError, camel_case, timestamp


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("base64_encode", ("hello?>",), "aGVsbG8/Pg=="),
        ("base64_decode", ("aGVsbG8=",), "hello"),
        ("base64_url_encode", ("hello?>",), "aGVsbG8_Pg=="),
        ("base64_url_decode", ("aGVsbG8_Pg==",), "hello?>"),
        ("replace_all", ("-", "_", "a-b.c"), "a_b.c"),
        ("regex_replace_all", ("foo([.a-z]+)", "$1", "foo.bar"), ".bar"),
        ("regex_replace_all", ("(o+)", "<${1}>", "foo.bar"), "f<oo>.bar"),
        ("regex_replace_all", ("o", r"\1$$", "fo"), r"f\1$"),
        ("regex_match", ("foo([.a-z]+)", "foo.bar"), True),
        ("regex_match", ("^[[:alpha:]]+$", "ab"), True),
        ("regex_match", (r"a\z", "ba"), True),
        ("regex_match", (r"^\pL+$", "ab"), True),
        ("regex_match", ("(?=a)a", "ba"), True),
        ("trim_space", ("  x \n",), "x"),
        ("trim_prefix", ("a", "ab"), "b"),
        ("trim_suffix", ("b", "ab"), "a"),
        ("to_title", ("abc def-ghi",), "Abc Def-Ghi"),
        ("to_lower", ("ABC def",), "abc def"),
        ("parse_bool", ("true",), True),
        ("parse_bool", ("0",), False),
        ("parse_bool", ("",), False),
        ("parse_int", ("-7",), -7),
        ("parse_int", ("",), 0),
        ("parse_uint", ("7",), 7),
        ("parse_float", ("1.25",), 1.25),
        ("add", (1, 1.5), 2.5),
        ("subtract", (2, 5), 3),
        ("divide", (2, 11), 5),
        ("divide", (2, -11), -5),
        ("divide", (2.0, 11), 5.5),
        ("modulo", (3, 10), 1),
        ("indent", (2, "l1\nl2\n\nl3"), "  l1\n  l2\n\n  l3"),
        ("split", (",", ""), []),
        ("split", (",", "a"), ["a"]),
        ("split", ("", "ab"), ["a", "b"]),
        ("split_to_map", (",", "=", "a=1,b"), {"a": "1", "b": ""}),
        ("join", ("+", ["a", 1]), "a+1"),
        ("contains", ("a", ["a"]), True),
        ("contains_all", (["a", "b"], "abc"), True),
        ("contains_any", (["x", "b"], ["a"]), False),
        ("contains_none", (["x"], ["a"]), True),
        ("contains_not_all", (["a", "x"], ["a"]), True),
        ("to_json", ({"b": "x<y&z", "a": [1, None]},),
         '{"a":[1,null],"b":"x\\u003cy\\u0026z"}'),
        ("to_unescaped_json", ({"s": "<é>"},), '{"s":"<é>"}'),
        ("to_unescaped_json", ("\u2028",), r'"\u2028"'),
        ("to_json_pretty", ({"m": {"a": 1}},), '{\n  "m": {\n    "a": 1\n  }\n}'),
        ("parse_json", ("",), {}),
        ("parse_json", ('{"n":12345678}',), {"n": 12345678}),
        ("explode_map", ({"a/b": 1, "a/c": 2, "d": 3},),
         {"a": {"b": 1, "c": 2}, "d": 3}),
        ("merge_map", ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}, "b": 3}),
         {"a": {"x": 1, "y": 1}, "b": 3}),
        ("merge_map_with_override", ({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}),
         {"a": {"x": 1, "y": 2}}),
        ("split", (",", " a,b\n"), ["a", "b"]),
        ("base64_decode", ("aGVs\r\nbG8=\n",), "hello"),
        ("sha256_hex", ("",),
         "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ("md5sum", ("",), "d41d8cd98f00b204e9800998ecf8427e"),
        ("hmac_sha256_hex", ("what do ya want for nothing?", "Jefe"),
         "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"),
    ],
)  # fmt: skip
def test_helper(name: str, args: tuple[Any, ...], expected: object) -> None:
    assert HELPERS[name](*args) == expected


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("parse_int", ("x",)),
        ("parse_int", ("1_0",)),
        ("parse_int", ("9223372036854775808",)),
        ("parse_uint", ("18446744073709551616",)),
        ("regex_match", ("[[:nope:]]", "x")),
        ("parse_bool", ("maybe",)),
        ("parse_json", ("nope",)),
        ("base64_decode", ("!!",)),
        ("divide", (0, 5)),
        ("regex_match", ("(", "x")),
        ("regex_replace_all", ("a", "$1", "a")),
        ("indent", (-1, "x")),
        ("loop", (10_000_000,)),
        ("explode_map", ({"a": 1, "a/b": 2},)),
        ("explode_map", ({"a/b": 2, "a": 1},)),
    ],
)
def test_a_wrong_value_is_a_helper_error(name: str, args: tuple[Any, ...]) -> None:
    with pytest.raises(HelperError):
        HELPERS[name](*args)


def test_names_in_the_references_spelling() -> None:
    spelled = {camel_case(name) for name in HELPERS}
    assert {
        "toJSON", "toJSONPretty", "toUnescapedJSON", "parseJSON", "toYAML",
        "base64URLEncode", "sha256Hex", "hmacSHA256Hex", "regexReplaceAll",
        "byTag", "containsNotAll", "md5sum", "explodeMap", "splitToMap",
    } <= spelled  # fmt: skip


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({}, "{}"),
        ("x", "x"),
        ([1, 2.5, True, None], "- 1\n- 2.5\n- true\n- null"),
        ({"a": ["x", {"b": 1, "c": 2}]}, "a:\n- x\n- b: 1\n  c: 2"),
        ({"k": "5432", "b": "true", "d": "2020-01-02", "e": ""},
         'b: "true"\nd: "2020-01-02"\ne: ""\nk: "5432"'),
        ({"k": "a: b", "l": "x #y", "m": "- z", "n": "a\nb"},
         "k: 'a: b'\nl: 'x #y'\nm: '- z'\n\"n\": |-\n  a\n  b"),
        ({"": [[1, 2], []]}, '"":\n- - 1\n  - 2\n- []'),
    ],
)  # fmt: skip
def test_yaml(value: object, expected: str) -> None:
    assert HELPERS["to_yaml"](value) == expected


def test_timestamp() -> None:
    now = datetime(2026, 11, 21, 14, 5, 6, tzinfo=UTC)
    assert timestamp(now=now) == "2026-11-21T14:05:06Z"
    assert timestamp("unix", now=now) == "1795269906"
    assert timestamp("%Y", now=now) == "2026"
    assert timestamp("Jan _2 2006 3:04PM", now=now) == "Nov 21 2026 2:05PM"
    assert timestamp("15:04 MST", "Europe/Berlin", now=now) == "15:05 CET"
    assert timestamp("%H %Z", "Europe/Berlin", now=now) == "15 CET"
    assert timestamp("", "Local", now=now) == timestamp(
        "2006-01-02T15:04:05Z07:00", "Local", now=now
    )
    with pytest.raises(HelperError, match="no time zone 'Mars'"):
        timestamp("", "Mars", now=now)
