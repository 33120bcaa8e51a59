"""The linear-time regular expressions, checked against Python's ``re``."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyconsul.filter import RegexError, compile_regex

ATOMS = st.sampled_from(
    ["a", "b", ".", "[ab]", "[^a]", r"\d", r"\w", r"\b", r"\B", "^", r"\s", "(?:a|b)"]
)
PATTERNS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}"])).map(
            lambda two: f"(?:{two[0]}){two[1]}"
        ),
    ),
    max_leaves=6,
)


@given(PATTERNS, st.text(alphabet="ab1 \n", max_size=8))
def test_agrees_with_re(pattern: str, text: str) -> None:
    # Python's \B never matches an empty text; RE2's does.
    assume(text or r"\B" not in pattern)
    expected = re.search(pattern, text, re.ASCII) is not None
    assert compile_regex(pattern).search(text) == expected


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("a$", "a\n", False),
        ("(?m)a$", "a\nb", True),
        ("(?m)^b", "a\nb", True),
        ("(?s)a.b", "a\nb", True),
        ("a.b", "a\nb", False),
        ("(?i)WeB", "my-wEb", True),
        ("(?i:w)eb", "Web", True),
        ("(?i:w)EB", "Web", False),
        ("(?i)[^a]", "A", False),
        (r"\Qa.b\E", "axb", False),
        (r"\Qa.b\E+", "a.bbb", True),
        (r"\pL\PL", "é1", True),
        (r"[[:alpha:]-]", "-", True),
        (r"[]a]", "]", True),
        (r"[\d-]+$", "1-2", True),
        (r"\x41\x{42}\t", "AB\t", True),
        ("a{,2}", "a{,2}", True),
        ("(?P<name>x)(y)?", "x", True),
        (r"^\Aab\z$", "ab", True),
        ("", "", True),
        (r"\B", "", True),
    ],
)
def test_re2_syntax(pattern: str, text: str, found: bool) -> None:
    assert compile_regex(pattern).search(text) is found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "missing closing ): `(`"),
        ("a)", "unexpected ): `a)`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("[a", "missing closing ]: `[a`"),
        ("[b-a]", "invalid character class range: `b-a`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("{2}", "missing argument to repetition operator: `{2}`"),
        ("a|{2,}b", "missing argument to repetition operator: `{2,}`"),
        ("{1001}", "invalid repeat count: `{1001}`"),
        ("a(?P<n{a}", "invalid named capture: `(?P<n{a}`"),
        ("(?P<é>a)", "invalid named capture: `(?P<é>`"),
        (r"\é", r"invalid escape sequence: `\é`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        ("a\\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        (r"(a)\1", r"invalid escape sequence: `\1`"),
        ("(?:(?:a{900}){900}){900}", "expression too large"),
        ("(" * 500, "expression nests too deeply"),
    ],
)
def test_error_texts(pattern: str, message: str) -> None:
    with pytest.raises(RegexError) as caught:
        compile_regex(pattern)
    assert message in str(caught.value)


def test_time_is_linear_where_backtracking_is_exponential() -> None:
    regex = compile_regex("^(a+)+(a|aa)*.*.*.*b$")
    start = process_time()
    assert not regex.search("a" * 20_000)
    assert process_time() - start < 2


def test_states_are_bounded() -> None:
    regex = compile_regex("(a|b)*a(a|b){10}$")
    text = "".join("ab"[(at * at // 7) & 1] for at in range(30_000))
    assert regex.search(text + "a" + "b" * 10)


LAZY = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", r"\b", "^", "$", "(a|ab)", "(a)|b"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda two: f"({two[0]}|{two[1]})"),
        # Empty matches repeated are another matter in every engine.
        st.tuples(
            st.sampled_from(["a", "ab", "[ab]", "(a)", "(a|b)", "(b|ba)"]),
            st.sampled_from(["*", "+", "?", "{2}", "{1,2}", "{0,}"]),
            st.sampled_from(["", "?"]),
        ).map(lambda three: f"(?:{three[0]}){three[1]}{three[2]}"),
    ),
    max_leaves=5,
)


@given(LAZY, st.text(alphabet="abc", max_size=8))
def test_groups_agree_with_re(pattern: str, text: str) -> None:
    # Python's $ also matches before a last line break, which no text here has.
    expected = re.search(pattern, text, re.ASCII)
    found = compile_regex(pattern).groups(text)
    if expected is None:
        assert found is None
    else:
        assert found == [expected[0], *(group or "" for group in expected.groups())]


@pytest.mark.parametrize(
    ("pattern", "text", "groups"),
    [
        ("^geo-we(.*)-(.*)$", "geo-web-v1", ["geo-web-v1", "b", "v1"]),
        ("(a+?)(a*)", "aaa", ["aaa", "a", "aa"]),
        ("(?U)(a+)(a*?)$", "aaa", ["aaa", "a", "aa"]),
        ("(?P<one>x)|(?<two>y)", "ay", ["y", "", "y"]),
        ("(?:a|(b))*", "ba", ["ba", "b"]),
        ("(a*)*", "aab", ["aa", "aa"]),
        ("(a|b)*", "", ["", ""]),
        ("(|a)+", "aa", ["", ""]),
        ("b(.?)$", "abb", ["bb", "b"]),
        (r"\bx(y)\b", "xyz xy", ["xy", "y"]),
    ],
)
def test_groups(pattern: str, text: str, groups: list[str]) -> None:
    assert compile_regex(pattern).groups(text) == groups


def test_groups_take_linear_time_and_have_a_limit() -> None:
    regex = compile_regex("(a*)*b|(a|aa)*c")
    start = process_time()
    assert regex.groups("a" * 2000) is None
    assert process_time() - start < 5
    with pytest.raises(RegexError, match="text too long"):
        regex.groups("a" * 1_000_000)


def test_octal_escapes_have_two_digits_or_more() -> None:
    assert compile_regex(r"^\101\07\1018$").search("A\x07A8")
    assert compile_regex("^{a}{,2}$").search("{a}{,2}")
