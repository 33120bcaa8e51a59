"""``printf``, ``print`` and how values print."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from pyconsul_template.ctmpl.printf import go_syntax, printf
from pyconsul_template.ctmpl.values import (
    Byte,
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
        (("%T %T %T %T %T %T", 1, "a", 1.5, True, Strings(), dict[str, Any]()),
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
        # Flags hold for values of the wrong kind as well
        (("%5s|%-5s|%05s|%+s|%.3s", 1, 1, 1, 1, 1),
         "%!s(int=    1)|%!s(int=1    )|%!s(int=00001)|%!s(int=+1)|%!s(int=001)"),
        (("%8.2d|%08t|%8d", 1.5, True, "a"),
         "%!d(float64=     1.5)|0000true|%!d(string=       a)"),
        (("%5d", [1, "a", None]), "[    1 %!d(string=    a) <nil>]"),
        # Zeros go before whatever is padded, but not with a precision or -
        (("%05c|%06q|%08s|%010T|%-05d|%0-5d|%08.3d", 65, 65, "a", "a", 7, 7, 7),
         "0000A|000'A'|0000000a|0000string|7    |7    |     007"),
        (("%08.2f|%+08.2f|% 08.2f|%06v|%06t|%05d", -2.5, 2.5, 2.5, 1.5, True, None),
         "-0002.50|+0002.50| 0002.50|0001.5|00true|%!d(<nil>)"),
        (("%07v|%8.2T|%08.3T", None, None, None), "00<nil>|   <nil>|000<nil>"),
        # The alternate form
        (("%#O|%#o|%#b|%#X|%#08x|%#.3x", 8, 0, 5, 255, 255, 7),
         "0o010|0|0b101|0XFF|0x000000ff|0x007"),
        (("%#g|%#.3g|%#.0f|%#e|%#v|%#x", 1.0, 1.0, 2.0, 1.0, 1.0, 1.0),
         "1.00000|1.00|2.|1.000000e+00|1|0x1.0000p+00"),
        (("%#q|%#q|%+q|%# x|%#x", "a\tb", "a\n", "é", "hi", ""),
         '`a\tb`|"a\\n"|"\\u00e9"|0x68 0x69|'),
        (("%#v|%#v|%#v", Unsigned(255), Byte(97), Long(-3)), "0xff|0x61|-3"),
        # Numbers in other clothes
        (("%b|%x|%X|%.3x|%.0x|%g", 1.5, 0.0, -3.5, 1.999, 1.5, 1e300),
         "6755399441055744p-52|0x0p+00|-0X1.CP+01|0x1.ffcp+00|0x1p+01|1e+300"),
        (("%x|%b", 5e-324, 5e-324), "0x1p-1074|1p-1074"),
        (("%U|%c|%q", -5, -5, 0x110000), "U+FFFFFFFFFFFFFFFB|\ufffd|'\ufffd'"),
        (("%+.1e|%+f|% f|%5.1f", float("inf"), float("nan"), float("nan"), float("-inf")),
         "+Inf|+NaN| NaN| -Inf"),
        (("%v|%.1f|%d|%T", 1 - 2j, 1 - 2j, 3j, 3j),
         "(1-2i)|(1.0-2.0i)|%!d(complex128=(0+3i))|complex128"),
        # Wrong directives
        (("%1000009999d|x", 1), "%!(NOVERB)%!(EXTRA int=1)"),
        (("%5.", 1), "%!.(int=    1)"),
        (("%.-3d", 7), "%!-(int=7)3d"),
        (("%[1]d %d", 1, 2), "1 2"),
        (("%[2]d", 1, 2, 3), "2"),
        (("%[x][2]d", 1, 2), "%!d(BADINDEX)"),
        (("%[9][2]d", 1), "%![(BADINDEX)2]d"),
        (("%w|%w", 5, [1]), "%!w(int=5)|%!w([]interface {}=[1])"),
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
