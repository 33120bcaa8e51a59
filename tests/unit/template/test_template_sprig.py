"""Sprig's functions in Go templates and in Jinja2: the same names and results."""

from __future__ import annotations

from pathlib import Path

import pytest
from ctmpl_fixture import FixtureViews, render

from pyconsul_template.ctmpl.sprig_all import TABLE
from pyconsul_template.render import Template, TemplateError, TemplateSource
from pyconsul_template.source import Source


def jinja(text: str, **options: object) -> str:
    source = TemplateSource(contents=text, name="t", syntax="jinja2", **options)  # type: ignore[arg-type]
    done = Template(source, Source(FixtureViews())).render()
    assert done.outcome.complete, done.outcome
    return done.content.decode()


# What sprig's documentation shows: arguments as Go has them, and the result.
TEXTS = [
    ('abbrev 5 "hello world"', "he..."),
    ('abbrev 3 "hello"', "hello"),
    ('abbrevboth 5 10 "1234 5678 9123"', "...5678..."),
    ('abbrevboth 0 10 "1234 5678 9123"', "1234 56..."),
    ('abbrevboth 9 10 "1234 5678 9123"', "...78 9123"),
    ('initials "First Try"', "FT"),
    ('untitle "Hello World"', "hello world"),
    ('swapcase "Hello"', "hELLO"),
    ('snakecase "FirstName"', "first_name"),
    ('snakecase "HTTPServer"', "http_server"),
    ('kebabcase "FirstName"', "first-name"),
    ('camelcase "http_server"', "HttpServer"),
    ('wrap 5 "one two threefour x"', "one\ntwo\nthreefour\nx"),
    ('wrapWith 5 "|" "HelloWorld ab"', "Hello|World|ab"),
    ('substr 0 5 "hello world"', "hello"),
    ('plural "one anchovy" "many anchovies" 2', "many anchovies"),
    ('trimall "$" "$5.00"', "5.00"),
    ('b32enc "hi"', "NBUQ===="),
    ('b32dec "NBUQ===="', "hi"),
    ('adler32sum "abc"', "38600999"),
    ('sha512sum "a" | sprig_trunc 8', "1f40fc92"),
    ('regexReplaceAllLiteral "a(x*)b" "-ab-axxb-" "${1}"', "-${1}-${1}-"),
    ('regexReplaceAll "a(x*)b" "-ab-axxb-" "${1}W"', "-W-xxW-"),
    ('regexSplit "z+" "pizza" -1 | sprig_join ","', "pi,a"),
    ('regexSplit "z" "azbzc" 2 | sprig_join ","', "a,bzc"),
    ('regexQuoteMeta "1.2.3"', r"1\.2\.3"),
    ('mustRegexFind "[a-zA-Z][1-9]" "abcd1234"', "d1"),
    ('regexFindAll "[2,4,6,8]" "123456789" -1 | sprig_join ""', "2468"),
    ('base "foo/bar/baz"', "baz"),
    ('base "/"', "/"),
    ('dir "foo/bar/baz"', "foo/bar"),
    ('dir "foo"', "."),
    ('clean "foo/bar/../baz"', "foo/baz"),
    ('clean "//a"', "/a"),
    ('ext "foo.tar.bar"', ".bar"),
    ('osBase "/foo/bar"', "bar"),
    ('seq 5', "1 2 3 4 5"),
    ('seq -3', "1 0 -1 -2 -3"),
    ('seq 0 2', "0 1 2"),
    ('seq 2 -2', "2 1 0 -1 -2"),
    ('seq 0 2 10', "0 2 4 6 8 10"),
    ('seq 0 -2 -5', "0 -2 -4"),
    ('splitn "$" 2 "foo$bar$baz" | sprig_toJson', '{"_0":"foo","_1":"bar$baz"}'),
    ('splitn "$" 0 "foo$bar$baz" | sprig_toJson', "{}"),
    ('hello', "Hello!"),
    ('toRawJson "<a>"', '"<a>"'),
    ('typeOf "a"', "string"),
    ('kindOf 1', "int"),
    ('kindOf nil', "invalid"),
    ('kindOf (sprig_list 1)', "slice"),
    ('kindOf (sprig_dict)', "map"),
    ('duration 95', "1m35s"),
    ('duration "3605"', "1h0m5s"),
    ('durationRound "2h10m5s"', "2h"),
    ('durationRound "2400h"', "3mo"),
    ('htmlDateInZone 0 "UTC"', "1970-01-01"),
    ('dateInZone "2006-01-02 15:04 MST" 0 "Europe/Berlin"', "1970-01-01 01:00 CET"),
    ('date_in_zone "15:04" 3600 "UTC"', "01:00"),
    ('toDate "2006-01-02" "2017-12-31" | sprig_date "02/01/2006"', "31/12/2017"),
    (
        'mustToDate "2006-01-02T15:04:05Z07:00" "2020-01-01T00:00:00+02:00"'
        " | sprig_unixEpoch",
        "1577829600",
    ),
    (
        'mustToDate "Jan _2 06 3PM" "Feb  3 21 4PM" | sprig_date "2006-01-02 15"',
        "2021-02-03 16",
    ),
    ('mustDateModify "-90m" 7200 | sprig_unixEpoch', "1800"),
    ('dateModify "nonsense" 7200 | sprig_unixEpoch', "7200"),
    (
        'urlParse "http://admin:secret@server.com:8080/api?list=false#anchor"'
        " | sprig_toJson",
        '{"fragment":"anchor","host":"server.com:8080","hostname":"server.com",'
        '"opaque":"","path":"/api","query":"list=false","scheme":"http",'
        '"userinfo":"admin:secret"}',
    ),
    ('urlParse "mailto:a@b.c" | sprig_urlJoin', "mailto:a@b.c"),
    (
        'urlJoin (sprig_dict "fragment" "f" "host" "host:80" "path" "/p" "query" "q"'
        ' "scheme" "http")',
        "http://host:80/p?q#f",
    ),
    ('pluck "a" (sprig_dict "a" "x") (sprig_dict "b" 1) | sprig_join ","', "x"),
    ('chunk 2 (sprig_list 1 2 3) | sprig_toJson', "[[1,2],[3]]"),
    ('slice (sprig_list 1 2 3 4) 1 3 | sprig_toJson', "[2,3]"),
    ('mustSlice (sprig_list 1 2 3) 1 | sprig_toJson', "[2,3]"),
    (
        'mergeOverwrite (sprig_dict "a" 1 "b" (sprig_dict "c" 1))'
        ' (sprig_dict "a" 2 "b" (sprig_dict "d" 0)) | sprig_toJson',
        '{"a":2,"b":{"c":1,"d":0}}',
    ),
    ('deepCopy (sprig_list 1 2) | sprig_toJson', "[1,2]"),
    ('mustAppend (sprig_list 1) 2 | sprig_toJson', "[1,2]"),
    ('expandenv "x${SPRIG_TEST}y$SPRIG_TEST"', "xvyv"),
    ('env "SPRIG_TEST"', "v"),
]  # fmt: skip
NUMBERS = [
    ('addf 1.1 2.2', 3.3),
    ('add1f 0.5', 1.5),
    ('subf 7.5 2 3', 2.5),
    ('mulf 1.5 2 2', 6.0),
    ('divf 10 2 4', 1.25),
    ('maxf 1 2.5 3', 3.0),
    ('minf 1.5 2 3', 1.5),
    ('ceil 123.001', 124.0),
    ('floor 123.9999', 123.0),
    ('round 123.555555 3', 123.556),
    ('round 123.4 0 0.3', 124.0),
    ('toDecimal "777"', 511),
    ('biggest 1 3 2', 3),
]  # fmt: skip
BOOLEANS = [
    ('isAbs "/a"', True),
    ('osIsAbs "a"', False),
    ('kindIs "int" 123', True),
    ('typeIs "string" 1', False),
    ('typeIsLike "string" "a"', True),
    ('deepEqual (sprig_list 1) (sprig_list 1)', True),
    ('mustHas 4 (sprig_list 1 2)', False),
]  # fmt: skip


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPRIG_TEST", "v")


def as_jinja(call: str) -> str:
    """Return a Go call as Jinja2 has it: pipes as filters, the rest as calls."""
    first, *filters = call.split(" | sprig_")
    found = call_of(first)
    for text in filters:
        name, _, rest = text.partition(" ")
        found += f" | sprig_{name}({', '.join(words_of(rest))})"
    return found


def words_of(text: str) -> list[str]:
    """Split arguments: strings stay whole, calls in parentheses are calls."""
    found: list[str] = []
    at = 0
    while at < len(text):
        end = at
        if text[at] == " ":
            at += 1
            continue
        if text[at] == '"':
            end = text.index('"', at + 1) + 1
            # Jinja2 reads escapes as Go does.
            found.append(text[at:end])
        elif text[at] == "(":
            depth = 0
            for end in range(at, len(text)):
                depth += {"(": 1, ")": -1}.get(text[end], 0)
                if not depth:
                    break
            end += 1
            found.append(call_of(text[at + 1 : end - 1].removeprefix("sprig_")))
        else:
            end = text.find(" ", at)
            end = len(text) if end < 0 else end
            found.append({"nil": "none"}.get(text[at:end], text[at:end]))
        at = end
    return found


def call_of(text: str) -> str:
    name, _, rest = text.partition(" ")
    return f"sprig_{name}({', '.join(words_of(rest))})"


@pytest.mark.parametrize(("call", "expected"), TEXTS)
def test_texts_are_the_same_in_both_languages(call: str, expected: str) -> None:
    assert render(f"{{{{sprig_{call}}}}}") == expected
    assert jinja(f"{{{{ {as_jinja(call)} }}}}") == expected


@pytest.mark.parametrize(("call", "expected"), NUMBERS)
def test_numbers_are_the_same_in_both_languages(call: str, expected: float) -> None:
    shown = str(expected).removesuffix(".0")
    assert render(f"{{{{sprig_{call}}}}}") == shown
    assert jinja(f"{{{{ {as_jinja(call)} }}}}") == str(expected)


@pytest.mark.parametrize(("call", "expected"), BOOLEANS)
def test_booleans_are_the_same_in_both_languages(call: str, expected: bool) -> None:
    assert render(f"{{{{sprig_{call}}}}}") == str(expected).lower()
    assert jinja(f"{{{{ {as_jinja(call)} }}}}") == str(expected)


def test_every_function_is_there_in_both_languages() -> None:
    # The names of sprig's documentation, but those that the tables above call.
    wanted = """
        default ternary list dict get hasKey append first last rest uniq sortAlpha
        trunc nospace cat quote squote b64enc b64dec upper lower title replace
        contains hasPrefix hasSuffix splitList join until add sub mul div mod max min
        int int64 float64 toString toStrings coalesce empty fail regexMatch regexFind
        regexReplaceAll date now indent nindent toJson toPrettyJson fromJson sha256sum
        semver semverCompare keys values merge pick omit dig htmlDate ago mustPush
        mustPrepend mustLast mustInitial mustReverse mustUniq mustWithout mustCompact
        mustFromJson mustToPrettyJson concat untilStep tuple set unset all any sha1sum
        split atoi repeat
    """
    assert set(wanted.split()) <= set(TABLE)
    assert len(TABLE) > 190
    for name in TABLE:
        text = (
            f"{{{{ 1 if sprig_{name} else 2 }}}}{{{{ none and (1 | sprig_{name}) }}}}"
        )
        assert jinja(text) == "1None", name


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("genCA()", "sprig_genCA makes keys or random values"),
        ("uuidv4()", "which is not supported"),
        ("chunk(0, [1])", "above 0"),
        ("slice([1], 2)", "out of range"),
        ("divf(1, 0)", "division by 0"),
        ("mustToDate('2006', 'x')", "is no time"),
        ("seq(1000000)", "over 100000"),
        ("upper(1)", "expected string; got int"),
        ("trunc(1)", "wrong number of args for sprig_trunc: want 2 got 1"),
        ("first({})", "is no list"),
    ],
)
def test_a_wrong_use_is_an_error_that_names_the_function(call: str, words: str) -> None:
    with pytest.raises(TemplateError, match=r"^t:1: ") as caught:
        jinja(f"{{{{ sprig_{call} }}}}")
    assert words in str(caught.value)
    assert f"sprig_{call.partition('(')[0]}" in str(caught.value)


def test_an_unknown_one_is_unknown_and_a_denied_one_denied() -> None:
    with pytest.raises(TemplateError, match="sprig_nope"):
        jinja("{{ sprig_nope(1) }}")
    with pytest.raises(TemplateError, match="denied"):
        jinja("{{ sprig_env('HOME') }}", denied=("sprig_env",))
    with pytest.raises(TemplateError, match="denied"):
        jinja("{{ 'HOME' | sprig_env }}", denied=("sprig_*",))


def test_undefined_is_nil_and_jinja_keeps_its_own() -> None:
    assert jinja("{{ {}.x | sprig_default('d') }}") == "d"
    assert jinja("{{ [3, 4] | first }} {{ [3, 4] | sprig_first }}") == "3 3"
    assert jinja("{{ 'abc' | replace('a', 'b') }}") == "bbc"
    # Data that is not there yet is passed through.
    views = FixtureViews()
    views.unanswered.add("/v1/kv/later")
    source = TemplateSource(contents="{{ key('later') | sprig_upper }}", name="t")
    assert not Template(source, Source(views)).render().outcome.complete


def test_included_text_may_name_more(tmp_path: Path) -> None:
    (tmp_path / "a.j2").write_text("{% include 'b.j2' %}")
    (tmp_path / "b.j2").write_text("{{ 'x' | sprig_repeat(3) }}")
    for _ in range(2):  # The second time, the code is at hand already.
        source = TemplateSource(path=tmp_path / "a.j2")
        done = Template(source, Source(FixtureViews())).render()
        assert done.content == b"xxx"
