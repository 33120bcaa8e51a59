"""CSV, Ansible's filters, metadata as it is, and names that say what they need."""

from __future__ import annotations

from typing import Any

import pytest
from ctmpl_fixture import FixtureViews, render
from template_fakes import FakeViews, entry, pair

from pyconsul_client.queries import Queries
from pyconsul_template.formats import ipaddr, parse_csv
from pyconsul_template.helpers import HELPERS, HelperError
from pyconsul_template.render import Template, TemplateError, TemplateSource
from pyconsul_template.source import Source, instances
from pyconsul_template.syntax import open_template


def jinja(text: str, views: FakeViews | None = None) -> str:
    """Return what a complete render makes."""
    source = TemplateSource(contents=text, name="t", syntax="jinja2")
    done = Template(source, Source(views or FixtureViews())).render()
    assert done.outcome.complete
    return done.content.decode()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("a,b\n1,2\n",), [["a", "b"], ["1", "2"]]),
        (("header", "a,b\n1,2\n3\n"), [{"a": "1", "b": "2"}, {"a": "3", "b": ""}]),
        ((";", '"x;y";z\r\n\r\n"a\nb";'), [["x;y", "z"], ["a\nb", ""]]),
        (("header", ";", "a;b\n1;2"), [{"a": "1", "b": "2"}]),
        (("",), []),
        (("header", ""), []),
    ],
)
def test_csv(words: tuple[str, ...], expected: list[Any]) -> None:
    assert parse_csv(*words) == expected


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((), "want a text"),
        (("ab", "x"), "'ab' is no delimiter"),
        (("header", "a,a\n1,2"), "the same name"),
        (("header", "a\n1,2"), "row 2 has over 1 fields"),
        (('"a"b,c',), "expected after"),
        (('"a',), "unexpected end"),
    ],
)
def test_wrong_csv(words: tuple[str, ...], text: str) -> None:
    with pytest.raises(HelperError, match=text):
        parse_csv(*words)


def test_csv_in_both_languages() -> None:
    text = "id,port\\nw1,80\\nw2,81"
    line = "{{.id}}:{{.port}} {{end}}"
    go = f'{{{{range parseCSV "header" "{text}"}}}}{line}'
    assert render(go) == "w1:80 w2:81 "
    assert render('{{range parseCSV "a,b"}}{{index . 1}}{{end}}') == "b"
    for call in (
        f"parse_csv('{text}', header=true)",
        f"'{text}' | parse_csv(header=true)",
        f"parseCSV('header', '{text}')",
        f"'{text}' | parseCSV('header', delimiter=',')",
    ):
        line = "{{ r.id }}:{{ r.port }} "
        found = jinja(f"{{% for r in {call} %}}{line}{{% endfor %}}")
        assert found == "w1:80 w2:81 ", call


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ '[1, {\"a\": null}]' | fromjson }}", "[1, {'a': None}]"),
        ("{{ ('{\"a\": 5}' | from_json).a + 1 }}", "6"),
        ("{{ ('a: [1, 2]' | from_yaml).a | sum }}", "3"),
        ("{{ {'b': 1, 'a': '<é>'} | to_nice_json }}",
         '{\n    "a": "<é>",\n    "b": 1\n}'),
        ("{{ {'a': [1]} | to_nice_json(indent=1) }}", '{\n "a": [\n  1\n ]\n}'),
        ("{{ {'a': {'b': 1}} | to_nice_yaml }}", "a:\n  b: 1\n"),
        (r"{{ 'foobar' | regex_replace('^f(o+)(.*)$', '\\2-\\1') }}", "bar-oo"),
        ("{{ 'aAa' | regex_replace('a', 'x', ignorecase=true, count=2) }}", "xxa"),
        ("{{ 'server1/80' | regex_search('[0-9]+') }}", "1"),
        (r"{{ 's1/80' | regex_search('(\\d)/(?P<p>\\d+)', '\\1', '\\g<p>') | join }}",
         "180"),
        ("{{ 'x' | regex_search('y') }}", "None"),
        ("{{ 'a1\nb2' | regex_findall('^[a-z]', multiline=true) | join(',') }}", "a,b"),
        ("{{ 'hi' | b64encode }} {{ 'aGk=' | b64decode }}", "aGk= hi"),
        ("{{ 'x' | ipaddr }} {{ '10.0.0.1' | ipaddr }}", "None 10.0.0.1"),
    ],
)  # fmt: skip
def test_filters_as_ansible_has_them(text: str, expected: str) -> None:
    assert jinja(text) == expected


@pytest.mark.parametrize(
    ("value", "query", "expected"),
    [
        ("192.168.1.5/24", "address", "192.168.1.5"),
        ("192.168.1.5/24", "network", "192.168.1.0"),
        ("192.168.1.5/24", "subnet", "192.168.1.0/24"),
        ("192.168.1.5/24", "host", "192.168.1.5/24"),
        ("192.168.1.5/24", "netmask", "255.255.255.0"),
        ("192.168.1.5/24", "hostmask", "0.0.0.255"),
        ("192.168.1.5/24", "broadcast", "192.168.1.255"),
        ("192.168.1.5/24", "prefix", 24),
        ("192.168.1.5/24", "size", 256),
        ("192.168.1.5/24", "net", None),
        ("192.168.1.0/24", "net", "192.168.1.0/24"),
        ("192.168.1.0/24", 1, "192.168.1.1/24"),
        ("192.168.1.0/24", -1, "192.168.1.255/24"),
        ("192.168.1.0/30", 9, None),
        ("10.0.0.1", "int", 167772161),
        ("::1", "version", 6),
        ("::1", "ipv4", None),
        ("::1", "ipv6", "::1"),
        ("10.0.0.1", "private", "10.0.0.1"),
        ("10.0.0.1", "public", None),
        ("10.0.0.1", "10.0.0.0/8", "10.0.0.1"),
        ("10.0.0.1", "192.168.0.0/16", None),
        (["a", "10.0.0.1", "::1"], "ipv4", ["10.0.0.1"]),
    ],
)
def test_ipaddr(value: Any, query: str | int, expected: Any) -> None:
    assert ipaddr(value, query) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{{ 'x' | ipaddr('nonsense') }}", "None"),
        ("{{ '::1' | ipaddr('nonsense') }}", "'nonsense' is no query"),
        ("{{ 'x' | regex_replace('(', '') }}", "regex_replace: "),
        ("{{ 'x' | regex_search('x', '\\\\9') }}", "regex_search: no such group"),
        ("{{ '!' | b64decode }}", "base64_decode: "),
        ("{{ '{' | fromjson }}", "parse_json: "),
        ("{{ {} | to_nice_json(indent=99) }}", "indent 99"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_the_filter(text: str, words: str) -> None:
    if words == "None":
        assert jinja(text) == words
        return
    with pytest.raises(TemplateError, match=r"^t:1: ") as caught:
        jinja(text)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        *(("secret", "Vault"), ("secrets", "Vault"), ("pkiCert", "Vault")),
        *(("nomadService", "Nomad"), ("nomad_var", "Nomad")),
        *(("partitions", "Consul Enterprise"), ("exportedServices", "Enterprise")),
    ],
)
def test_what_needs_another_server_says_so(name: str, needs: str) -> None:
    with pytest.raises(TemplateError, match=f"{name} needs .*{needs}"):
        jinja(f"{{{{ {name}('x') }}}}")
    assert jinja(f"{{{{ 1 if {name} else 2 }}}}") == "1"


def test_pending_data_goes_through() -> None:
    source = TemplateSource(contents="{{ key('k') | parse_csv | first }}", name="t")
    template = Template(source, Source(FakeViews()))
    assert not template.render().outcome.complete


def test_metadata_as_it_is() -> None:
    found = instances(
        [
            entry("n1", "a", meta={"zone": "eu.west-1", "n": "7"}),
            entry("n2", "b", meta={"zone": "eu.west-1"}),
            entry("n3", "c", meta={}),
        ]
    )
    by_meta = HELPERS["by_meta"]

    def keys(names: str, **raw: bool) -> list[str]:
        return list(by_meta(names, found, **raw))

    assert keys("zone") == ["_no_zone_", "eu_west_1"]
    assert keys("zone", raw=True) == ["", "eu.west-1"]
    assert keys("zone|raw,n|int") == ["_00000", "eu.west-1_00000", "eu.west-1_00007"]
    with pytest.raises(HelperError, match=r"'zone\|x': x is neither int nor raw"):
        keys("zone|x")


def test_metadata_as_it_is_in_both_languages() -> None:
    views, queries = FakeViews(), Queries()
    views.answer(
        queries.service("web", passing=True), [entry("n", "a", meta={"z": "x.y"})]
    )
    for call in ("by_meta('z', raw=true)", "byMeta('z|raw')"):
        pairs = f"(service('web') | {call}).items()"
        text = f"{{% for z, found in {pairs} %}}{{{{ z }}}}{{% endfor %}}"
        assert jinja(text, views) == "x.y", call
    go = '{{range $z, $found := service "web" | byMeta "z|raw"}}{{$z}}{{end}}'
    source = TemplateSource(contents=go, name="t", syntax="gotemplate")
    assert open_template(source, Source(views)).render().content == b"x.y"


def test_a_pair_has_its_bytes() -> None:
    views = FakeViews()
    views.answer(Queries().kv_key("k"), pair("k", b"\xff\x00a"))
    assert jinja("{{ kv('k').raw | length }} {{ kv('k').raw[0] }}", views) == "3 255"


def test_records_as_yaml() -> None:
    views = FakeViews()
    views.answer(
        Queries().service("web", passing=True), [entry("n1", "a", tags=("t",))]
    )
    found = jinja("{{ service('web') | toYAML }}", views)
    assert "  Checks:\n  - CheckID: c\n" in found
    assert "  Tags:\n  - t\n" in found
    assert "(" not in found


def test_keys_by_folder_are_relative_in_both_languages() -> None:
    views = FakeViews()
    views.answer(Queries().kv_prefix("p/"), [pair("p/a/b/c", "1"), pair("p/d", "2")])
    text = (
        "{% for top, l in (tree('p') | byKey).items() %}{% for k, p in l.items() %}"
        "{{ top }} {{ k }} {{ p.key }} {{ p.path }}{% endfor %}{% endfor %}"
    )
    assert jinja(text, views) == "a b/c b/c p/a/b/c"
    views.answer(Queries().kv_prefix("p"), [pair("p/a/b/c", "1"), pair("p/d", "2")])
    go = "{{range $top, $l := tree `p` | byKey}}{{range $k, $p := $l}}"
    go += "{{$top}} {{$k}} {{$p.Key}} {{$p.Path}}{{end}}{{end}}"
    source = TemplateSource(contents=go, name="t", syntax="gotemplate")
    found = open_template(source, Source(views)).render()
    assert found.content == b"a b/c b/c p/a/b/c"


def test_order_by_fields_in_both_languages() -> None:
    views = FakeViews()
    found = [
        entry("n1", "a", 80, meta={"z": "y"}),
        entry("n2", "b", 81),
        entry("n1", "c", 81, meta={"z": "x"}),
    ]
    views.answer(Queries().service("web", passing=True), found)
    for names, order in (
        ("node", "acb"),
        ("-port,node", "cba"),
        ("Node,-Port", "cab"),
        ("meta.z", "bca"),
        ("-ServiceMeta.z", "acb"),
    ):
        call = f"sort_by('{names}', service('web'))"
        assert jinja(f"{{{{ {call} | map(attribute='id') | join }}}}", views) == order
        call = f"service('web') | sortBy('{names}')"
        assert jinja(f"{{{{ {call} | map(attribute='id') | join }}}}", views) == order
        go = f'{{{{range service "web" | sortBy "{names}"}}}}{{{{.ID}}}}{{{{end}}}}'
        source = TemplateSource(contents=go, name="t", syntax="gotemplate")
        assert open_template(source, Source(views)).render().content == order.encode()
    assert jinja("{{ [{'n': 'b'}, {'n': 2}, {}] | sort_by('n') }}") == (
        "[{}, {'n': 2}, {'n': 'b'}]"
    )
    for call, words in (
        ("sort_by('x', service('web'))", "no x in a Instance"),
        ("sort_by('node.x', service('web'))", "no x in a str"),
        ("sort_by('x', 'text')", "a str is no list"),
    ):
        with pytest.raises(TemplateError, match=words):
            jinja(f"{{{{ {call} }}}}", views)
