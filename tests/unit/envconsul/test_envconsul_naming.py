"""Names of variables, sources, precedence and filters."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyconsul_client.tool.exits import ToolError
from pyconsul_envconsul.config import CommandLine, Config
from pyconsul_envconsul.environment import Filters, collect
from pyconsul_envconsul.fetch import target
from pyconsul_envconsul.naming import Format, FormatError, read_path
from pyconsul_envconsul.sources import Key, Prefix, Service, Source
from pyconsul_envconsul.watch import query_of

ROW = {
    "ServiceID": "web-1",
    "ServiceName": "web",
    "ServiceAddress": "",
    "Address": "10.0.0.1",
    "ServiceTags": ["a", "b"],
    "ServicePort": 80,
}


def config(*argv: str, environ: dict[str, str] | None = None) -> Config:
    return CommandLine(list(argv)).config(environ or {})


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("custom_{{ key }}_end", "custom_inner_end"),
        ("{{key}}", "inner"),
        ("{{- key -}}", "inner"),
        ('{{ key | replaceKey "inner" "outer" }}', "outer"),
        ("{{ key | replaceKey `inner` `outer` }}", "outer"),
        ('{{ key | replaceKey "inn" "x" }}', "inner"),
        ('{{ key | toUpper | trimPrefix "IN" }}', "NER"),
        ('{{ key | replaceAll "n" "m" | trimSuffix "r" }}', "imme"),
        ('a{{ key | replaceKey "inner" "q\\"q" }}b', 'aq"qb'),
        ("plain", "plain"),
    ],
)
def test_formats(source: str, name: str) -> None:
    assert Format(source)({"key": "inner"}) == name


@pytest.mark.parametrize(
    "source",
    ["{{ key ", "{{ }}", "{{ other }}", "{{ key | nope }}", "{{ key | replaceKey }}",
     "{{ key | }}", '{{ key | replaceKey "a" b }}', "{{ key key }}", "{{ 'x' }}"],
)  # fmt: skip
def test_formats_that_cannot_be_read(source: str) -> None:
    with pytest.raises(FormatError, match="format"):
        Format(source)


@given(st.text(alphabet='{}-key|rpl"`\\\\ ', max_size=40), st.text(max_size=10))
def test_any_format_gives_a_name_or_an_error(source: str, key: str) -> None:
    try:
        form = Format(source)
    except FormatError:
        return
    name = form({"key": key})
    if "{{" not in source:
        assert name == source


def test_a_path_with_variables() -> None:
    assert read_path('app/{{ env "X" }}/y', {"X": "1"}) == "app/1/y"
    with pytest.raises(FormatError, match="NOPE is not set"):
        read_path('{{ env "NOPE" }}', {})
    with pytest.raises(FormatError, match="only"):
        read_path('{{ key "NOPE" }}', {})


def test_a_prefix_is_of_whole_segments() -> None:
    assert Prefix("app").question == ("/v1/kv/app/", (("recurse", ""),))
    assert Prefix("/app/").question == ("/v1/kv/app/", (("recurse", ""),))
    assert Prefix("app", raw=True).question == ("/v1/kv/app", (("recurse", ""),))
    assert Prefix("").question == ("/v1/kv/", (("recurse", ""),))
    assert Prefix("app@dc2").question == (
        "/v1/kv/app/",
        (("dc", "dc2"), ("recurse", "")),
    )


def test_a_prefixs_names() -> None:
    rows = [("app/", b""), ("app/a", b"1"), ("app/sub/b", b"2")]
    assert Prefix("app").variables(rows) == [("a", b"1"), ("sub/b", b"2")]
    shown = Prefix("my-app/v1", with_path=True).variables([("my-app/v1/a-b", b"1")])
    assert shown == [("my_app_v1_a-b", b"1")]
    both = Prefix("app", with_path=True, format="X_{{ key }}").variables(rows[:2])
    assert both == [("X_app_a", b"1")]


def test_a_raw_prefix_takes_what_begins_alike() -> None:
    rows = [("t/a", b"1"), ("t2/a", b"2")]
    assert Prefix("t", raw=True).variables(rows) == [("a", b"1"), ("2/a", b"2")]


def test_a_services_names_and_values() -> None:
    assert Service("web").variables([ROW]) == [
        ("web/id", b"web-1"),
        ("web/name", b"web"),
        ("web/address", b"10.0.0.1"),
        ("web/tag", b"a,b"),
        ("web/port", b"80"),
    ]
    named = Service("web", {"port": "{{ service }}_P"}).variables([ROW])
    assert named[-1] == ("web_P", b"80")


def test_a_services_question() -> None:
    assert Service("v1.web@dc2~node1").question == (
        "/v1/catalog/service/web",
        (("dc", "dc2"), ("tag", "v1"), ("near", "node1")),
    )
    with pytest.raises(FormatError, match="invalid service"):
        Service("a b")


def collected(
    sources: list[Source], answers: list[object], **how: bool
) -> tuple[dict[bytes, bytes], list[str]]:
    dropped: list[str] = []
    by_question = {
        source.question: answer for source, answer in zip(sources, answers, strict=True)
    }
    how = {"sanitize": False, "upcase": False} | how
    return collect(sources, by_question, dropped=dropped.append, **how), dropped


def test_later_sources_win() -> None:
    sources: list[Source] = [Prefix("a"), Prefix("b"), Key("X", "one/x")]
    answers: list[object] = [
        [("a/X", b"1"), ("a/Y", b"1")],
        [("b/Y", b"2")],
        [("one/x", b"3")],
    ]
    assert collected(sources, answers)[0] == {b"X": b"3", b"Y": b"2"}


def test_sanitize_and_upcase_collide_in_byte_order() -> None:
    rows = [("c/x-y", b"1"), ("c/x.y", b"2"), ("c/x_y", b"3")]
    found, _ = collected([Prefix("c")], [rows], sanitize=True, upcase=True)
    assert found == {b"X_Y": b"3"}


def test_what_no_environment_can_hold_is_dropped_without_its_value() -> None:
    rows = [("c/a=b", b"secret1"), ("c/n", b"secret\0two"), ("c/k", b"v")]
    found, dropped = collected([Prefix("c")], [rows])
    assert found == {b"k": b"v"}
    assert len(dropped) == 2
    assert "secret" not in " ".join(dropped)


def test_filters_in_their_order() -> None:
    variables = {b"PATH": b"p", b"A": b"1", b"SECRET_X": b"s"}
    filters = Filters(allow=["A", "SECRET_*"], deny=["SECRET_*"], custom=["SECRET_X=c"])
    assert filters(variables) == {b"A": b"1", b"SECRET_X": b"c"}
    assert Filters(pristine=True, custom=["A=2"])(variables) == {b"A": b"2"}
    assert Filters()(variables) == variables


def test_the_first_fetch_asks_what_the_view_asks() -> None:
    sources: tuple[Source, ...] = (
        Prefix("a b/ü&?@dc1"),
        Service("v=1.web"),
        Key("X", "k+k"),
    )
    for source in sources:
        plain = target(source.question, stale=False)
        expected = query_of(source.question).target().replace("recurse=", "recurse")
        assert plain.replace("%3D", "=").replace("%2B", "+").replace(
            "%26", "&"
        ) == expected.replace("%3D", "=").replace("%2B", "+").replace("%26", "&")
    assert target(("/v1/kv/a", ()), stale=True) == "/v1/kv/a?stale"


def test_prefixes_of_files_come_before_flags(tmp_path: Path) -> None:
    path = tmp_path / "c.hcl"
    path.write_text('prefix { path = "first" no_prefix = false }\nsanitize = true')
    found = config("-prefix=second", f"-config={path}", "true")
    assert [source.question[0] for source in found.sources] == [
        "/v1/kv/first/",
        "/v1/kv/second/",
    ]
    assert found.sanitize
    assert found.sources[0].variables([("first/a", b"")]) == [("first_a", b"")]


def test_formats_belong_to_the_service_before_them() -> None:
    found = config(
        "-service-query=web", "-service-format-id=W", "-service-query=db", "true"
    )
    assert found.sources[0].variables([ROW])[0] == ("W", b"web-1")
    assert found.sources[1].variables([ROW])[0] == ("db/id", b"web-1")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["-prefix=a"], "no command"),
        (["true"], "nothing to take variables from"),
        (["-secret=a", "true"], "Vault is not supported"),
        (["-prefix=a", "-on-change=jump", "true"], "invalid on_change"),
        (["-prefix=a", "-on-change=signal:NO", "true"], "invalid signal"),
        (["-service-query=!", "true"], "invalid service"),
        (["-prefix=a", "-syslog", "-syslog-facility=X", "true"], "syslog facility"),
        (["-prefix=a", "-consul-addr=ftp://x", "true"], "protocol scheme"),
    ],
)
def test_settings_that_make_no_sense(argv: list[str], words: str) -> None:
    with pytest.raises(ToolError, match=words) as caught:
        config(*argv)
    assert caught.value.status == 15


def test_commands_as_words_and_as_text() -> None:
    assert config("-prefix=a", "one two", "x").program.argv == ["one two", "x"]
    single = config("-prefix=a", "one two")
    assert single.program.argv == ["one two"]
    text = config("-prefix=a", "-exec", "one two").program
    assert text.shell
    assert text.argv[1:] == ["-c", "one two"]


def test_a_list_in_a_file_is_not_for_the_shell(tmp_path: Path) -> None:
    path = tmp_path / "c.hcl"
    path.write_text('exec { command = ["a", "b c"] }\nprefix { path = "a" }')
    assert config(f"-config={path}").program.argv == ["a", "b c"]
    path.write_text('exec { command = ["a b"] }\nprefix { path = "a" }')
    assert config(f"-config={path}").program.shell
