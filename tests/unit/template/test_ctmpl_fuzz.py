"""Whatever a Go template's text is: it renders, or fails as a template does."""

from __future__ import annotations

import contextlib

import pytest
from ctmpl_fixture import CASES, FixtureViews, go_template
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pyconsul_template.ctmpl.errors import GoExecError, GoSyntaxError
from pyconsul_template.ctmpl.lexer import Kind, tokens
from pyconsul_template.ctmpl.printf import printf
from pyconsul_template.ctmpl.regex import compiled
from pyconsul_template.ctmpl.yaml_parse import parse_yaml
from pyconsul_template.render import TemplateError

PIECES = st.sampled_from(
    [
        *("{{", "}}", "{{-", "-}}", " ", "\n", "a", ".", ".a", ".b.c", "$", "$x", ":="),
        *("=", ",", "|", "(", ")", '"s"', "`r`", "'c'", "1", "-2", "1.5", "0x1", "nil"),
        *("true", "if", "else", "end", "range", "with", "define", "template", "block"),
        *("break", "continue", "print", "printf", "len", "index", "eq", "and", "not"),
        *("key", "service", '"web"', "loop", "3", "parseJSON", "split", "/*", "*/"),
        *(
            "\\",
            "'",
            '"',
            "`",
            "%",
            "é",
            "\x00",
            "{{if 1}}",
            "{{end}}",
            "{{range loop 2}}",
        ),
        *('{{define "t"}}', '{{template "t" .}}', "{{else}}", "{{$x := 1}}"),
    ]
)
SAFE = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
)
VIEWS = FixtureViews()


def attempt(text: str) -> None:
    with contextlib.suppress(TemplateError):
        go_template(text, VIEWS).render()


@SAFE
@given(st.lists(PIECES, max_size=30).map("".join))
def test_pieces_of_the_language(text: str) -> None:
    attempt(text)


@SAFE
@given(st.lists(PIECES, max_size=12).map(" ".join))
def test_pieces_within_an_action(text: str) -> None:
    attempt("{{" + text + "}}")


@SAFE
@given(st.text(max_size=40))
def test_any_text(text: str) -> None:
    attempt(text)
    attempt("{{" + text + "}}")


@SAFE
@given(st.sampled_from(CASES["cases"]), st.integers(0, 400), PIECES)
def test_recorded_templates_with_a_piece_put_in(
    case: dict[str, str], at: int, piece: str
) -> None:
    text = case["template"]
    if "plugin" not in text:
        attempt(text[:at] + piece + text[at:])
        attempt(text[:at] + text[at + 1 :])


@SAFE
@given(st.text(alphabet="%#+-0 *.[]123dsvqxXTtfgeUcbopzé", max_size=20))
def test_any_printf_layout(layout: str) -> None:
    printf(layout, 7, "text", 1.5, None, [1, "a"])


@SAFE
@given(st.text(alphabet="ab()[]{}\\^$.*+?|-:=!<>Pdswpz0129,\n", max_size=20))
def test_any_expression(pattern: str) -> None:
    with contextlib.suppress(GoExecError):
        compiled(pattern)


@SAFE
@given(st.text(alphabet="ab: -\n#'\"[]{},|>&*!~1.\t\\", max_size=40))
def test_any_yaml(text: str) -> None:
    with contextlib.suppress(GoExecError):
        parse_yaml(text)


@SAFE
@given(st.lists(PIECES, max_size=20).map("".join))
def test_tokens_hold_the_text_at_their_offset(text: str) -> None:
    found, error = tokens(text, "{{", "}}")
    assert isinstance(error, GoSyntaxError)
    if error.text == "unexpected EOF":
        assert found[-1].kind is Kind.END
    for token in found:
        assert text.startswith(token.text, token.at)


@pytest.mark.parametrize("size", [1, 20_000])
def test_time_grows_with_the_text_alone(size: int) -> None:
    for text in ("{{", "{{(", "a{{-", "{{/*", '{{"', "{{.a", "{{if 1}}", "{{1 | "):
        attempt(text * size)
