"""Loops whose text is kept while their list is the same, in both languages."""

from __future__ import annotations

from typing import Any

import pytest
from ctmpl_fixture import FixtureViews, go_template
from template_fakes import FakeViews, entry, pair

from pyconsul_client.queries import Queries
from pyconsul_template.ctmpl import template as go
from pyconsul_template.ctmpl.functions import Environment, function_table
from pyconsul_template.ctmpl.kept import asked
from pyconsul_template.ctmpl.lookups import GoLookups
from pyconsul_template.ctmpl.nodes import Branch
from pyconsul_template.ctmpl.parser import parse
from pyconsul_template.render import Template, TemplateError, TemplateSource
from pyconsul_template.source import Source
from pyconsul_template.syntax import open_template

QUERIES = Queries()
WEB = QUERIES.service("web", passing=True)
API = QUERIES.service("api", passing=True)
SERVICES = QUERIES.services()
FOLDER = QUERIES.kv_prefix("f/")


class Site:
    """A template over answers that a test changes."""

    def __init__(self, text: str, syntax: str, **options: Any) -> None:
        self.views = FakeViews()
        self.views.answer(SERVICES, {"api": [], "web": ["a"]})
        self.views.answer(WEB, [entry("n1", "w1", 80), entry("n2", "w2", 81)])
        self.views.answer(API, [entry("n1", "a1", 90)])
        self.views.answer(FOLDER, [pair("f/a", "1"), pair("f/b", "2")])
        self.template = open_template(
            TemplateSource(contents=text, name="t", syntax=syntax, **options),
            Source(self.views),
        )

    def text(self) -> str:
        rendered = self.template.render()
        assert rendered.outcome.complete
        return rendered.content.decode()


BOTH = [
    (
        "jinja",
        "{% for s in services() %}[{{ s.name }}:"
        "{% for i in service(s.name) %}{{ i.node }}={{ i.port }} {% endfor %}]"
        "{% endfor %}",
    ),
    (
        "gotemplate",
        "{{ range services }}[{{ .Name }}:"
        "{{ range service .Name }}{{ .Node }}={{ .Port }} {{ end }}]{{ end }}",
    ),
]


@pytest.mark.parametrize(("syntax", "text"), BOTH)
def test_only_changed_lists_are_gone_through_again(syntax: str, text: str) -> None:
    site = Site(text, syntax)
    first = "[api:n1=90 ][web:n1=80 n2=81 ]"
    assert (site.text(), site.text()) == (first, first)
    site.views.answer(WEB, [entry("n3", "w3", 7)])
    assert site.text() == "[api:n1=90 ][web:n3=7 ]"
    site.views.answer(API, [])
    assert site.text() == "[api:][web:n3=7 ]"
    site.views.answer(API, [entry("n1", "a1", 91)])
    assert site.text() == "[api:n1=91 ][web:n3=7 ]"


@pytest.mark.parametrize(("syntax", "text"), BOTH)
def test_a_render_from_kept_texts_uses_the_same(syntax: str, text: str) -> None:
    site = Site(text, syntax)
    used = site.template.render().outcome.used
    assert {e.query for e in used} == {SERVICES, WEB, API}
    assert site.template.render().outcome.used == used


@pytest.mark.parametrize(
    ("syntax", "text", "wanted"),
    [
        (
            "jinja",
            '{% for i in service("web") %}{{ loop.index }}{{ i.node }}{% endfor %}'
            '{% for i in service("web") %}{{ i.id | upper }}{% endfor %}',
            "1n12n2W1W2",
        ),
        (
            "jinja",
            '{% for i in service("web") %}{% if i.port > 80 %}{{ i.id }}{% endif %}'
            '{% endfor %}{% for i in service("web") %}{{ i.id }}{% endfor %}',
            "w2w1w2",
        ),
        (
            "jinja",
            "{% for n in (1, 2) %}"
            '{% for i in service("web") %}{{ n }}{{ i.id }}{% endfor %}{% endfor %}',
            "1w11w22w12w2",
        ),
        (
            "jinja",
            '{% macro m() %}{% for i in service("web") %}{{ i.id }}{% endfor %}'
            "{% endmacro %}{{ m() }}{% set x %}"
            '{% for i in service("api") %}{{ i.id }}{% endfor %}{% endset %}{{ x }}',
            "w1w2a1",
        ),
        (
            "gotemplate",
            '{{ range $i := service "web" }}{{ $p := $i.Port }}{{ $p }}{{ end }}'
            '{{ range service "none|any" }}x{{ else }}-{{ $ }}{{ end }}',
            "8081-<no value>",
        ),
        (
            "gotemplate",
            '{{ range $n, $i := service "web" }}{{ $n }}{{ .ID }}{{ end }}'
            '{{ range service "web" "any" }}{{ if eq .Port 81 }}{{ break }}{{ end }}'
            "{{ .ID }}{{ end }}",
            "0w11w2w1",
        ),
        (
            "gotemplate",
            '{{ $last := "" }}{{ range service "web" }}{{ $last = .ID }}{{ end }}'
            '{{ $last }}{{ range tree "f" }}{{ .Key | toUpper }}{{ .Value }}{{ end }}',
            "w2A1B2",
        ),
        (
            "gotemplate",
            '{{ range $x := loop 1 3 }}{{ range service "web" }}{{ $x }}{{ .ID }}'
            "{{ end }}{{ end }}",
            "1w11w22w12w2",
        ),
        (
            "gotemplate",
            '{{ define "l" }}{{ range service . }}{{ .ID }}{{ range .Tags }}<{{ . }}>'
            '{{ end }}{{ end }}{{ end }}{{ template "l" "web" }}'
            '{{ template "l" "api" }}',
            "w1w2a1",
        ),
        (
            "gotemplate",
            '{{ range service "web" }}{{ scratch.MapSet "m" .ID .Port }}{{ end }}'
            '{{ range scratch.MapValues "m" }}{{ . }} {{ end }}',
            "80 81 ",
        ),
    ],
)
def test_every_render_says_the_same(syntax: str, text: str, wanted: str) -> None:
    site = Site(text, syntax)
    site.views.answer(QUERIES.service("none"), [])
    site.views.answer(
        QUERIES.service("web"), [entry("n1", "w1"), entry("n2", "w2", 81)]
    )
    site.views.answer(QUERIES.kv_prefix("f"), [pair("f/a", "1"), pair("f/b", "2")])
    texts = {site.text() for _ in range(3)}
    assert {text.replace("/A", "A").replace("/B", "B") for text in texts} == {wanted}


def test_a_loop_that_fails_is_not_kept() -> None:
    text = '{{ range service "web" }}{{ .ID }}{{ index .Tags 0 }}{{ end }}'
    site = Site(text, "gotemplate")
    for _ in range(2):
        with pytest.raises(TemplateError, match="error calling index"):
            site.text()
    site.views.answer(WEB, [entry("n1", "w1", tags=("x",))])
    assert site.text() == "w1x"


def test_turns_of_kept_loops_count(monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        '{{ range service "web" }}{{ range 4 }}.{{ end }}{{ end }}'
        '{{ range service "api" }}{{ range 4 }}.{{ end }}{{ end }}'
    )
    site = Site(text, "gotemplate")
    assert site.text() == "." * 12
    # Two services of 2 and 1 instances, 4 turns for each of these.
    monkeypatch.setattr(go, "TURNS_MAX", 15)
    assert site.text() == "." * 12
    monkeypatch.setattr(go, "TURNS_MAX", 14)
    with pytest.raises(TemplateError, match="turns of loops"):
        site.text()


def loop_of(text: str) -> Branch:
    environment = Environment(
        lookups=GoLookups(Source(FixtureViews()), None),
        denied=(),
        file_root=None,
        execute=lambda name, value: "",
    )
    tree = parse(text, function_table(environment), "{{", "}}")
    [loop] = [node for node in tree.body if isinstance(node, Branch)]
    return loop


@pytest.mark.parametrize(
    "text",
    [
        '{{ range service "a" }}{{ .ID }}{{ end }}',
        '{{ range $s := service "a" }}{{ $x := $s.ID }}{{ $x = "b" }}{{ $x }}{{ end }}',
        '{{ range tree "a" }}{{ with .Key }}{{ printf "%s" . }}{{ end }}{{ end }}',
        "{{ range nodes }}{{ if eq .Address `x` }}{{ .ID }}{{ end }}{{ end }}",
    ],
)
def test_loops_that_can_be_kept(text: str) -> None:
    assert asked(loop_of(text)) is not None


@pytest.mark.parametrize(
    "text",
    [
        '{{ range service "a" }}{{ $.X }}{{ end }}',
        '{{ $x := 1 }}{{ range service "a" }}{{ $x }}{{ end }}',
        '{{ $x := 1 }}{{ range service "a" }}{{ $x = 2 }}{{ end }}',
        '{{ $x := 1 }}{{ range $x = service "a" }}{{ .ID }}{{ end }}',
        '{{ range $i, $s := service "a" }}{{ $i }}{{ end }}',
        '{{ range service "a" | byTag }}{{ . }}{{ end }}',
        '{{ range ls "a" }}{{ .Key }}{{ end }}',
        '{{ range service (key "a") }}{{ .ID }}{{ end }}',
        '{{ range service "a" }}{{ key .ID }}{{ end }}',
        '{{ range service "a" }}{{ env "A" }}{{ end }}',
        '{{ range service "a" }}{{ timestamp }}{{ end }}',
        '{{ range service "a" }}{{ template "t" . }}{{ end }}{{ define "t" }}{{ end }}',
        '{{ range service "a" }}{{ range service .ID }}{{ end }}{{ end }}',
        '{{ range service "a" }}{{ .Tags.Contains "b" }}{{ end }}',
        '{{ range service "a" }}{{ scratch.Set "a" . }}{{ end }}',
    ],
)
def test_loops_that_cannot_be_kept(text: str) -> None:
    assert asked(loop_of(text)) is None


def test_texts_are_kept_for_each_list_of_a_loop() -> None:
    text = (
        "{{ range $n := services }}{{ range service .Name }}{{ .ID }}{{ end }}{{ end }}"
    )
    rendered = go_template(text)
    first = rendered.render().content
    assert first
    assert rendered.render().content == first


def test_an_included_file_has_loops_of_its_own(tmp_path: Any) -> None:
    loop = '{% for i in service("web") %}X{{ i.id }}{% endfor %}'
    (tmp_path / "main.j2").write_text(loop.replace("X", "a") + "{% include 'b.j2' %}")
    (tmp_path / "b.j2").write_text(loop.replace("X", "b"))
    views = FakeViews()
    views.answer(WEB, [entry("n1", "w1")])
    template = Template(TemplateSource(path=tmp_path / "main.j2"), Source(views))
    assert {template.render().content for _ in range(2)} == {b"aw1bw1"}
