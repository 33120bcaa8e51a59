"""Templates: lookups, pending data, spellings, the sandbox, error places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from template_fakes import FakeViews, entry, pair

from pyconsul_client.queries import Queries
from pyconsul_template.render import Template, TemplateError, TemplateSource
from pyconsul_template.source import Source, describe

Q = Queries()


def template(views: FakeViews, text: str, **options: Any) -> Template:
    return Template(TemplateSource(contents=text, name="t", **options), Source(views))


def rendered(views: FakeViews, text: str, **options: Any) -> str:
    result = template(views, text, **options).render()
    assert result.outcome.complete, result.outcome
    return result.content.decode()


@pytest.fixture
def views() -> FakeViews:
    views = FakeViews()
    for key, value in {"a": "1", "empty": "", "app/name": "shop"}.items():
        views.answer(Q.kv_key(key), pair(key, value))
    views.answer(Q.kv_key("no"), None)
    views.answer(
        Q.kv_prefix("cfg/"),
        [
            pair("cfg/", ""),
            pair("cfg/db/host", "h1"),
            pair("cfg/db/port", "5432"),
            pair("cfg/dir/", ""),
            pair("cfg/top", "t"),
        ],
    )
    views.answer(Q.kv_prefix("none/"), None)
    healthy = [
        entry("n2", "web-2", 81, address="192.168.9.2", tags=("v2", "http")),
        entry("n1", "web-1", 80, tags=("v1", "http"), meta={"zone": "a"}),
    ]
    views.answer(Q.service("web", passing=True), healthy)
    views.answer(
        Q.service("web"),
        [
            *healthy,
            entry("n3", "web-3", 82, status="warning"),
            entry("n4", "web-4", 83, status="critical"),
            entry("n5", "web-5", 84, check_id="_node_maintenance"),
        ],
    )
    views.answer(Q.services(), {"web": ["v2", "v1"], "db": []})
    views.answer(Q.datacenters(), ["dc1"])
    return views


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ key('a') }}", "1"),
        ("{{ key('/app/name') }}", "shop"),
        ("{{ key('no', 'd') }} {{ keyOrDefault('empty', 'd') }}", "d d"),
        ("{{ key_or_default('a', 'd') }}", "1"),
        ("{{ keyExists('empty') }} {{ key_exists('no') }}", "True False"),
        ("{{ kv('app/name').Value }} {{ kv('a').ModifyIndex }}", "shop 7"),
        ("{% for p in ls('cfg') %}{{ p.Key }}={{ p.Value }};{% endfor %}", "top=t;"),
        (
            "{% for p in tree('cfg') %}{{ p.key }}({{ p.Path }}) {% endfor %}",
            "db/host(cfg/db/host) db/port(cfg/db/port) top(cfg/top) ",
        ),
        ("{% for p in ls('none') %}x{% else %}empty{% endfor %}", "empty"),
        (
            "{{ tree('cfg') | explode | to_json }}",
            '{"db":{"host":"h1","port":"5432"},"top":"t"}',
        ),
        (
            "{{ tree('cfg') | explode | toYAML }}",
            'db:\n  host: h1\n  port: "5432"\ntop: t',
        ),
        (
            "{% for s in service('web') %}{{ s.Node }} {{ s.Address }}:{{ s.Port }} "
            "{{ s.NodeAddress }} {{ s.tags | join(',') }};{% endfor %}",
            "n1 10.0.0.1:80 10.0.0.1 http,v1;n2 192.168.9.2:81 10.0.0.1 http,v2;",
        ),
        ("{% for s in service('web|any') %}{{ s.ID }} {% endfor %}",
         "web-1 web-2 web-3 web-4 web-5 "),
        ("{% for s in service('web', 'warning,critical') %}{{ s.id }} {% endfor %}",
         "web-3 web-4 "),
        ("{% for s in service('web', status='maintenance') %}{{ s.id }}{% endfor %}",
         "web-5"),
        ("{{ service('web')[0].ServiceMeta.zone }}{{ service('web')[0].meta.zone }}",
         "aa"),
        ("{{ service('web')[0].meta.absent }}|", "|"),
        ("{% for z, g in service('web') | groupby('Port') %}{{ z }}{% endfor %}",
         "8081"),
        ("{{ service('web') | byTag | join(',') }}", "http,v1,v2"),
        ("{% for s in services() %}{{ s }}:{{ s.Tags | join(',') }} {% endfor %}",
         "db: web:v1,v2 "),
        ("{{ services(tag='v1') | join }}", "web"),
        ("{{ datacenters() | join }}", "dc1"),
        ("{{ env('PYCONSUL_TEST_UNSET', 'dflt') }}", "dflt"),
        ("{{ 'a' is defined }} {{ nope is defined }}", "True False"),
        ("{% do [1].append(2) %}{% for i in loop(3) %}{{ i }}{% endfor %}", "012"),
    ],
)  # fmt: skip
def test_lookups(views: FakeViews, text: str, expected: str) -> None:
    assert rendered(views, text) == expected


def test_a_tag_keyword_takes_a_name_with_dots(views: FakeViews) -> None:
    views.answer(Q.service("a.b", passing=True), [entry("n1", "x")])
    assert rendered(views, "{{ service('a.b', tag='')[0].id }}") == "x"


def test_the_string_form_carries_tag_datacenter_near_and_status() -> None:
    views = FakeViews()
    template(views, "{{ service('v1.web@dc2~_agent|any') }}").render()
    assert set(views.views) == {Q.service("web", ["v1"], "dc2", "_agent")}


def test_keys_may_name_a_datacenter() -> None:
    views = FakeViews()
    text = "{{ key('a@dc2') }}{{ key('b@c', dc='dc3') }}{{ ls('p@dc4') }}"
    template(views, text).render()
    assert set(views.views) == {
        Q.kv_key("a", "dc2"),
        Q.kv_key("b@c", "dc3"),
        Q.kv_prefix("p/", "dc4"),
    }


def test_pending_data_absorbs_every_operation() -> None:
    text = (
        "{{ service('web')[0].Checks[1].x + 3 * 2 - 1 }}{{ key('a') | parseInt }}"
        "{% for x in ls('k') %}{{ x }}{% endfor %}{{ (key('b') | parseJSON).m.n() }}"
        "{% if key('a') > 3 or node('n').Node.Address == 'x' %}{% endif %}"
    )
    outcome = template(FakeViews(), text).render().outcome
    assert not outcome.complete
    assert {describe(entry.query) for entry in outcome.waiting} == {
        "service web (passing)",
        "key a",
        "keys below k/",
        "key b",
        "node n",
    }


def test_an_error_while_data_is_pending_is_no_error() -> None:
    outcome = template(FakeViews(), "{{ key('a') }}{{ 1 / 0 }}").render().outcome
    assert not outcome.complete


def test_an_absent_key_holds_the_template_and_is_named(views: FakeViews) -> None:
    outcome = template(views, "{{ key('no') }}").render().outcome
    assert not outcome.complete
    assert {entry.query for entry in outcome.missing} == {Q.kv_key("no")}
    assert not outcome.waiting


def test_an_absent_required_key_is_an_error(views: FakeViews) -> None:
    with pytest.raises(TemplateError, match=r"^t:1: .*no does not exist"):
        template(views, "{{ key('no', required=true) }}").render()


def test_safe_tree_waits_for_a_pair(views: FakeViews) -> None:
    outcome = template(views, "{{ safeTree('none') }}").render().outcome
    assert {entry.query for entry in outcome.missing} == {Q.kv_prefix("none/")}


def test_binary_values_reach_the_file_unharmed(views: FakeViews) -> None:
    raw = bytes(range(256)).replace(b"\r", b"")
    views.answer(Q.kv_key("bin"), pair("bin", raw))
    assert template(views, "{{ key('bin') }}").render().content == raw


def test_data_is_never_taken_for_template_text(views: FakeViews) -> None:
    views.answer(Q.kv_key("evil"), pair("evil", "{{ env('HOME') }}"))
    assert rendered(views, "{{ key('evil') }}") == "{{ env('HOME') }}"


@pytest.mark.parametrize(
    "text",
    [
        "{{ key.__self__ }}",
        "{{ ''.__class__.__mro__ }}",
        "{{ service('web')[0].__struct_fields__ }}",
        "{{ cycler.__init__.__globals__ }}",
        "{{ key.__func__.__globals__ }}",
    ],
)
def test_the_sandbox_keeps_python_out_of_reach(views: FakeViews, text: str) -> None:
    with pytest.raises(TemplateError, match="unsafe"):
        template(views, text).render()


def test_a_syntax_error_names_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "a.j2"
    path.write_text("one\ntwo {% if %}\n")
    with pytest.raises(TemplateError) as caught:
        Template(TemplateSource(path=path), Source(FakeViews()))
    assert (caught.value.path, caught.value.line) == (str(path), 2)
    assert str(caught.value).startswith(f"{path}:2: ")


def test_a_runtime_error_names_file_and_line(tmp_path: Path, views: FakeViews) -> None:
    path = tmp_path / "a.j2"
    path.write_text(
        "one\n{% for s in service('web') %}\n{{ s.port / 0 }}\n{% endfor %}"
    )
    with pytest.raises(TemplateError) as caught:
        Template(TemplateSource(path=path), Source(views)).render()
    assert str(caught.value) == f"{path}:3: ZeroDivisionError: division by zero"


def test_an_error_in_an_included_file_names_that_file(
    tmp_path: Path, views: FakeViews
) -> None:
    path = tmp_path / "a.j2"
    path.write_text("{% include 'part.j2' %}")
    (tmp_path / "part.j2").write_text("\n\n{{ nosuch }}")
    with pytest.raises(TemplateError, match="'nosuch' is undefined") as caught:
        Template(TemplateSource(path=path), Source(views)).render()
    assert str(caught.value).startswith(f"{tmp_path}/part.j2:3: ")


def test_include_may_not_leave_the_folder(tmp_path: Path, views: FakeViews) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (tmp_path / "out.j2").write_text("secret")
    (folder / "a.j2").write_text("{% include '../out.j2' %}")
    with pytest.raises(TemplateError):
        Template(TemplateSource(path=folder / "a.j2"), Source(views)).render()


def test_a_helper_error_names_the_place(views: FakeViews) -> None:
    with pytest.raises(TemplateError, match=r"^t:2: HelperError: parse_int: 'x'"):
        template(views, "\n{{ 'x' | parseInt }}").render()


def test_error_on_missing_key_is_strict(views: FakeViews) -> None:
    text = "{{ service('web')[0].meta.absent }}"
    with pytest.raises(TemplateError, match="no attribute 'absent'"):
        template(views, text, error_on_missing_key=True).render()


def test_a_denied_function_is_an_error_under_both_names(views: FakeViews) -> None:
    for name in ("key_exists", "keyExists"):
        with pytest.raises(TemplateError, match="denied"):
            template(views, f"{{{{ {name}('a') }}}}", denied=("keyEx*",)).render()


def test_other_delimiters(views: FakeViews) -> None:
    text = "{{ x }} [[ key('a') ]]"
    got = rendered(views, text, left_delimiter="[[", right_delimiter="]]")
    assert got == "{{ x }} 1"


def test_file_reads_only_below_the_sandbox_path(
    tmp_path: Path, views: FakeViews
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "f").write_text("in")
    (tmp_path / "g").write_text("out")
    (root / "link").symlink_to(tmp_path / "g")
    ok = template(views, f"{{{{ file('{root}/f') }}}}", file_root=root)
    assert ok.render().content == b"in"
    assert ok.files() == {root / "f"}
    for name in (f"{root}/../g", f"{root}/link"):
        with pytest.raises(TemplateError, match="outside sandbox_path"):
            template(views, f"{{{{ file('{name}') }}}}", file_root=root).render()


def test_the_agents_own_node_is_found_through_the_agent() -> None:
    views = FakeViews()
    asked = template(views, "{{ node() }}").render().outcome
    (own,) = asked.waiting
    assert own.query.path == "/v1/agent/self"
    views.answer(own.query, {"Config": {"NodeName": "n1"}})
    again = template(views, "{{ node().Node.Address }}").render().outcome
    assert {entry.query for entry in again.waiting} == {Q.node("n1")}
    views.answer(Q.node("n1"), None)
    assert rendered(views, "{% if node() %}x{% else %}none{% endif %}") == "none"
