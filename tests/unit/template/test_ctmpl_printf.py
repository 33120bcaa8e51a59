"""``printf``, ``print`` and how values print."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from pyconsul_template.ctmpl.printf import go_syntax, printf
from pyconsul_template.ctmpl.values import (
    Long,
    StringMap,
    Strings,
    Unsigned,
    float_text,
    print_values,
    printed,
)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("%d|%5d|%-5d|%05d|%+d|% d", 7, 7, 7, 7, 7, 7), "7|    7|7    |00007|+7| 7"),
        (("%05d|%x|%X|%#x|%o|%#o|%O|%b", -7, 255, 255, 255, 8, 8, 8, 5),
         "-0007|ff|FF|0xff|10|010|0o10|101"),
        (("%.3d|%8.3d|%.0d", 7, 7, 0), "007|     007|"),
        (("%c|%q|%U|%#U", 65, 65, 8364, 8364), "A|'A'|U+20AC|U+20AC '€'"),
        (("%f|%.2f|%8.2f|%-8.2f|%08.2f|%+.1f", 3.14159, 2.5, 2.5, 2.5, -2.5, 1.0),
         "3.141590|2.50|    2.50|2.50    |-0002.50|+1.0"),
        (("%e|%E|%g|%G|%.3g|%x", 31.4, 31.4, 1e-7, 1e20, 1234.5, 3.5),
         "3.140000e+01|3.140000E+01|1e-07|1E+20|1.23e+03|0x1.cp+01"),
        (("%s|%q|%x|% x|%#x|%X", "hi", 'a"\n', "hi", "hi", "hi", "hi"),
         'hi|"a\\"\\n"|6869|68 69|0x6869|6869'),
        (("%5s|%-5s|%.2s|%5.1s|%05s", "abc", "abc", "abc", "abc", "abc"),
         "  abc|abc  |ab|    a|00abc"),
        (("%v|%v|%v|%v|%v", 1, "a", True, 1.5, None), "1|a|true|1.5|<nil>"),
        (("%t|%t", True, False), "true|false"),
        (("%T %T %T %T %T %T", 1, "a", 1.5, True, Strings(), {}),
         "int string float64 bool []string map[string]interface {}"),
        (("%T %T %T %T", Long(1), Unsigned(1), StringMap(), None),
         "int64 uint64 map[string]string <nil>"),
        (("%#v %#v %#v", "a", Strings(["x"]), {"k": 1.0}),
         '"a" []string{"x"} map[string]interface {}{"k":1}'),
        (("%+v", 1), "1"),
        (("%d %s %q", [1, 2], Strings(["a", "b"]), Strings(["a"])), '[1 2] [a b] ["a"]'),
        (("%03d", [1, 2]), "[001 002]"),
        (("%v", {"b": 1, "a": [None]}), "map[a:[<nil>] b:1]"),
        (("%%|%5%",), "%|%"),
        (("%d", "x"), "%!d(string=x)"),
        (("%s", 5), "%!s(int=5)"),
        (("%z", 5), "%!z(int=5)"),
        (("%d",), "%!d(MISSING)"),
        (("x", 1, "b"), "x%!(EXTRA int=1, string=b)"),
        (("%s", None), "%!s(<nil>)"),
        (("%",), "%!(NOVERB)"),
        (("%[2]d %[1]d", 1, 2), "2 1"),
        (("%[2]*[1]d|", 7, 4), "   7|"),
        (("%[3]d", 1), "%!d(BADINDEX)"),
        (("%[x]d", 1), "%!d(BADINDEX)"),
        (("%*d|%-*d|", 4, 7, 4, 7), "   7|7   |"),
        (("%*d", "a", 7), "%!(BADWIDTH)7"),
        (("%.*f", 2, 3.14159), "3.14"),
        (("%.*f", "a", 1.5), "%!(BADPREC)1.500000"),
        (("é%5sé", "é"), "é    éé"),
    ],
)  # fmt: skip
def test_printf(args: tuple[Any, ...], text: str) -> None:
    assert printf(*args) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"), (-0.0, "-0"), (1.0, "1"), (1.5, "1.5"), (100000.0, "100000"),
        (1e6, "1e+06"), (12345678.0, "1.2345678e+07"), (123456.789, "123456.789"),
        (1e21, "1e+21"), (0.0001, "0.0001"), (0.00001, "1e-05"), (1.25e-7, "1.25e-07"),
        (1e100, "1e+100"), (float("inf"), "+Inf"), (float("-inf"), "-Inf"),
        (float("nan"), "NaN"), (0.1, "0.1"), (1 / 3, "0.3333333333333333"),
    ],
)  # fmt: skip
def test_floats(value: float, text: str) -> None:
    assert float_text(value) == text


def test_print_puts_spaces_between_operands_that_are_no_strings() -> None:
    assert print_values(1, 2, "a", "b", 3, 4) == "1 2a b3 4".replace("a b", "ab")
    assert print_values("a", True, None) == "atrue <nil>"
    assert print_values() == ""


def test_nested_values_print() -> None:
    value = {"m": {"b": [1, "x"], "a": None}, "l": (), "s": Strings(["p", "q"])}
    assert printed(value) == "map[l:[] m:map[a:<nil> b:[1 x]] s:[p q]]"
    assert go_syntax(None) == "interface {}(nil)"


def test_bytes_that_are_no_text_survive() -> None:
    raw = b"\xff\xfe".decode("utf-8", "surrogateescape")
    assert printf("%s|%q|%x", raw, raw, raw) == f'{raw}|"\\xff\\xfe"|fffe'
