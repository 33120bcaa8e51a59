"""Go templates within the tool: passes, missing data, limits, choice of syntax."""

# ruff: noqa: E501

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ctmpl_fixture import FixtureViews, go_template, render
from template_fakes import FakeView, FakeViews, pair

from pyconsul_client.queries import Query
from pyconsul_template.cli import run
from pyconsul_template.ctmpl.template import GoTemplate
from pyconsul_template.render import Template, TemplateError, TemplateSource
from pyconsul_template.source import Source
from pyconsul_template.syntax import is_go, open_template


def kv(key: str) -> Query:
    from pyconsul_client.queries import Queries

    return Queries().kv_key(key, "")


def fakes_template(text: str, views: FakeViews) -> GoTemplate:
    return GoTemplate(TemplateSource(contents=text, name="t"), Source(views))


def test_lookups_that_depend_on_each_other_take_passes() -> None:
    views = FakeViews()
    template = fakes_template('{{key (key "which") | toUpper}}', views)
    first = template.render().outcome
    assert {entry.query for entry in first.waiting} == {kv("which")}
    views.answer(kv("which"), pair("which", "b"))
    second = template.render().outcome
    assert {entry.query for entry in second.waiting} == {kv("b")}
    views.answer(kv("b"), pair("b", "value"))
    third = template.render()
    assert third.outcome.complete
    assert third.content == b"VALUE"


def test_an_error_while_data_is_missing_is_no_error() -> None:
    views = FakeViews()
    text = '{{$a := key "a"}}{{index (split "," "x") 7}}{{key "never asked"}}'
    template = fakes_template(text, views)
    assert template.render().outcome.waiting
    views.answer(kv("a"), pair("a", "1"))
    with pytest.raises(TemplateError, match="index out of range"):
        template.render()
    assert {entry.query for entry in template.failed().used} == {kv("a")}
    assert template.failed().failed


def test_pending_data_needs_no_guards() -> None:
    views = FakeViews()
    text = (
        '{{with $s := service "web"}}{{(index $s 0).ID}}{{end}}'
        '{{(index (service "web") 0).Address | toUpper}}{{(key "j" | parseJSON).a.b.c}}'
        '{{range $k, $v := tree "t" | explode}}{{$k}}{{end}}{{range ls "l"}}{{.Key}}{{end}}'
        '{{if eq (key "x") "y"}}1{{end}}{{if lt (key "x" | parseInt) 3}}1{{end}}'
        '{{if and (keyExists "e") (ne (key "x") "q")}}1{{end}}{{len (nodes)}}'
        '{{scratch.Set "k" (key "s")}}{{scratch.Get "k" | printf "%s"}}{{datacenters}}'
        '{{key "last"}}'
    )
    waiting = fakes_template(text, views).render().outcome.waiting
    assert kv("last") in {entry.query for entry in waiting}


def test_a_key_that_does_not_exist_holds_the_template() -> None:
    views = FixtureViews()
    outcome = go_template('{{key "no/such"}}', views).render().outcome
    assert {entry.query for entry in outcome.missing} == {kv("no/such")}
    held = go_template('{{range safeLs "no/such"}}{{end}}', views).render().outcome
    assert held.missing
    assert render('{{keyOrDefault "no/such" "x"}}', views) == "x"


def test_scratch_and_definitions_start_anew_in_each_render() -> None:
    text = '{{if scratch.Key "a"}}old{{end}}{{scratch.Set "a" 1}}new'
    template = go_template(text)
    assert template.render().content == template.render().content == b"new"


def test_bytes_that_are_no_text_pass_through() -> None:
    views = FixtureViews({"raw": b"\xff\x00\xfe"})
    content = go_template('{{key "raw"}}{{key "raw" | len}}', views).render().content
    assert content == b"\xff\x00\xfe3"


def test_a_denied_function_is_refused_when_called() -> None:
    template = '{{if false}}{{env "HOME"}}{{end}}x'
    assert render(template, denied=("env",)) == "x"
    with pytest.raises(TemplateError, match="plugin is denied"):
        render('{{plugin "echo"}}', denied=("plug*",))


def test_values_cannot_reach_python() -> None:
    for template in (
        "{{.__class__}}",
        '{{range service "web"}}{{.__class__}}{{end}}',
        '{{range service "web"}}{{.__struct_fields__}}{{end}}',
        '{{(split "," "a").append "x"}}',
        '{{range service "web"}}{{.Tags.index "x"}}{{end}}',
        "{{(scratch).values}}",
        '{{scratch.map_set "a" "b" 1}}',
        "{{__import__}}",
    ):
        if template == "{{.__class__}}":
            assert render(template) == "<no value>"
            continue
        with pytest.raises(TemplateError):
            render(template)


def test_text_of_a_template_is_never_code() -> None:
    nasty = '"""\'); import os #@0\n{{/* #@1 */}}#@2\n'
    expected = '"""\'); import os #@0\n#@2\n'
    assert render(nasty) == expected
    assert render("{{`" + '"""\'#@0' + "`}}") == '"""\'#@0'


def test_write_to_file(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    target = root / "sub" / "f"
    text = f'{{{{writeToFile "{target}" "" "" "0640" "newline" "text"}}}}x'
    assert render(text, file_root=root, is_dry=True) == "x"
    assert not target.exists()
    assert render(text, file_root=root) == "x"
    assert target.read_bytes() == b"text\n"
    assert target.stat().st_mode & 0o777 == 0o640
    again = text.replace('"newline"', '"append"')
    render(again, file_root=root)
    assert target.read_bytes() == b"text\ntext"


def test_write_to_file_keeps_within_its_root(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret").write_text("kept")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "up").symlink_to(tmp_path)
    for name in ("link", "up/secret", "../secret", "up/new"):
        with pytest.raises(TemplateError):
            render(
                f'{{{{writeToFile "{root}/{name}" "" "" "0644" "x"}}}}', file_root=root
            )
    assert (tmp_path / "secret").read_text() == "kept"
    assert not (tmp_path / "new").exists()
    with pytest.raises(TemplateError, match="permissions"):
        render(f'{{{{writeToFile "{root}/a" "" "" "9" "x"}}}}', file_root=root)
    with pytest.raises(TemplateError, match="unknown flag"):
        render(f'{{{{writeToFile "{root}/a" "" "" "0644" "z" "x"}}}}', file_root=root)


def test_nothing_is_written_before_the_render_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "f"
    views = FakeViews()
    text = f'{{{{writeToFile "{target}" "" "" "0644" (key "a")}}}}{{{{key "b"}}}}'
    source = TemplateSource(contents=text, name="t", file_root=tmp_path)
    template = GoTemplate(source, Source(views))
    template.render()
    views.answer(kv("a"), pair("a", "1"))
    template.render()
    assert not target.exists()
    views.answer(kv("b"), pair("b", "2"))
    template.render()
    assert target.read_text() == "1"


def test_file_is_read_and_watched(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("inner")
    template = go_template(f'{{{{file "{other}"}}}}', file_root=tmp_path)
    assert template.render().content == b"inner"
    assert template.files() == {Path(os.path.realpath(other))}
    with pytest.raises(TemplateError, match="outside sandbox_path"):
        render('{{file "/etc/hostname"}}', file_root=tmp_path)


class ConnectViews(FixtureViews):
    def _answer(self, query: Query) -> Any:
        if query.path == "/v1/health/connect/web":
            return [e for name, e in self.entries if name == "web"][:1]
        if query.path == "/v1/agent/connect/ca/roots":
            return {"Roots": [{"ID": "r1", "RootCert": "PEM", "Active": True}]}
        if query.path == "/v1/agent/connect/ca/leaf/web":
            return {"CertPEM": "C", "PrivateKeyPEM": "K"}
        if query.path == "/v1/peerings":
            return [{"Name": "east"}]
        return super()._answer(query)


def test_lookups_of_the_mesh() -> None:
    views = ConnectViews()
    assert render('{{range connect "web"}}{{.ID}}{{end}}', views) == "web-1"
    text = '{{range caRoots}}{{.ID}}{{.RootCertPEM}}{{end}} {{with caLeaf "web"}}{{.CertPEM}}{{end}}'
    assert render(text, views) == "r1PEM C"
    assert render("{{range peerings}}{{.Name}}{{end}}", views) == "east"


def test_a_lost_view_is_pending() -> None:
    class Lost(FixtureViews):
        def get(self, query: Query) -> FakeView:
            return FakeView()

    assert go_template('{{caRoots}}{{connect "web"}}', Lost()).render().outcome.waiting


@pytest.mark.parametrize(
    ("name", "syntax", "go"),
    [
        ("a.ctmpl", "auto", True),
        ("a.tmpl", "auto", True),
        ("a.tpl", "auto", True),
        ("a.conf.j2", "auto", False),
        ("a.conf", "auto", False),
        ("a.conf", "gotemplate", True),
        ("a.ctmpl", "jinja2", False),
    ],
)
def test_syntax_goes_by_suffix_or_option(
    tmp_path: Path, name: str, syntax: str, go: bool
) -> None:
    path = tmp_path / name
    path.write_text("x")
    source = TemplateSource(path=path, syntax=syntax)
    assert is_go(source) is go
    template = open_template(source, Source(FixtureViews()))
    assert isinstance(template, GoTemplate if go else Template)
    assert template.render().content == b"x"


def test_errors_name_the_file(tmp_path: Path) -> None:
    path = tmp_path / "a.ctmpl"
    path.write_text("ok\n{{len 5}}\n")
    source = TemplateSource(path=path)
    with pytest.raises(TemplateError) as caught:
        open_template(source, Source(FixtureViews())).render()
    expected = f'{path}:2: executing "" at <len 5>: error calling len: len of type int'
    assert str(caught.value) == expected
    path.unlink()
    with pytest.raises(TemplateError, match="No such file"):
        open_template(source, Source(FixtureViews()))


def test_parse_only_reads_go_templates(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.conf"
    path.write_text('{{range service "web"}}{{.ID}}{{end}}')
    options = ["-parse-only", "-dry", "-template", str(path)]
    assert run([*options, "-syntax", "gotemplate"]) == 0
    path.write_text("{{if}}")
    assert run([*options, "-syntax", "gotemplate"]) == 14
    assert "a.conf:1: missing value for if" in capsys.readouterr().err
    assert run([*options, "-syntax", "perl"]) == 15


def test_templates_of_one_text_do_not_share_their_data() -> None:
    text = '{{scratch.Set "a" (key "app/name")}}{{scratch.Get "a"}}'
    one = go_template(text, FixtureViews({"app/name": "first"}))
    two = go_template(text, FixtureViews({"app/name": "second"}))
    denied = go_template(text, denied=("key",))
    assert one.render().content == b"first"
    assert two.render().content == b"second"
    with pytest.raises(TemplateError, match="key is denied"):
        denied.render()
    strict = '{{with parseJSON "{\\"a\\":1}"}}{{.b}}{{end}}'
    assert render(strict) == "<no value>"
    with pytest.raises(TemplateError, match="no entry"):
        render(strict, error_on_missing_key=True)


def test_the_programs_kept_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    from pyconsul_template.ctmpl import template as module

    programs: dict[Any, Any] = {}
    monkeypatch.setattr(module, "_programs", programs)
    for number in range(module.PROGRAMS_MAX + 10):
        assert render(f"{{{{{number}}}}}") == str(number)
    assert len(programs) == module.PROGRAMS_MAX
