"""What is asked for with ``?name=value``: defaults, peers, and what needs more."""

from __future__ import annotations

import pytest
from template_fakes import FakeViews, entry, pair

from pyconsul_client.queries import Queries, Query
from pyconsul_template.render import TemplateError, TemplateSource
from pyconsul_template.source import Source
from pyconsul_template.syntax import open_template

Q = Queries()


def render(views: FakeViews, text: str, syntax: str = "jinja2") -> str:
    source = TemplateSource(contents=text, name="t", syntax=syntax)
    done = open_template(source, Source(views)).render()
    assert done.outcome.complete, done.outcome.waiting
    return done.content.decode()


def from_peer(query: Query) -> Query:
    return Query(query.path, (*query.params, ("peer", "east")), query.kind)


def test_default_names_are_as_none() -> None:
    views = FakeViews()
    views.answer(Q.kv_key("a", "dc2"), pair("a", "1"))
    views.answer(Q.kv_prefix("p/"), [pair("p/b", "2")])
    views.answer(Q.services("dc2"), {"web": []})
    views.answer(Q.nodes("", "_agent"), [])
    go = (
        '{{key "a?ns=default&partition=default@dc2"}}{{range ls "p?ns=/"}}{{end}}'
        '{{range services "?ns=default@dc2"}}{{.Name}}{{end}}'
        '{{len (nodes "?partition=default~_agent")}}'
    )
    with pytest.raises(AssertionError):
        # "p?ns=/" is no such word: it is a key as it stands.
        render(views, go, "gotemplate")
    assert render(views, go.replace("ns=/", "ns="), "gotemplate") == "1web0"


def test_instances_of_a_peer() -> None:
    views = FakeViews()
    query = Q.service("web", tags=["v1"], dc="dc2", near="n", passing=True)
    views.answer(from_peer(query), [entry("n1", "a")])
    for call in (
        'service "v1.web?peer=east@dc2~n"',
        'service "v1.web?ns=default&peer=east@dc2~n|passing"',
    ):
        text = f"{{{{range {call}}}}}{{{{.ID}}}}{{{{end}}}}"
        assert render(views, text, "gotemplate") == "a", call
    for call in (
        "service('v1.web@dc2~n', peer='east')",
        "service('web', tag='v1', dc='dc2', near='n', peer='east')",
    ):
        text = f"{{{{ ({call} | first).id }}}}"
        assert render(views, text) == "a", call


def test_the_mesh_takes_the_same_words() -> None:
    views = FakeViews()
    query = Q.service("w.b", tags=["v1"], dc="dc2", filter="x == 1")
    mesh = Query(query.path.replace("service", "connect"), query.params, query.kind)
    views.answer(mesh, [entry("n1", "a")])
    views.answer(from_peer(mesh), [entry("n1", "b")])
    call = "connect('w.b', tag='v1', dc='dc2', status='any', filter='x == 1'{})"
    assert render(views, f"{{{{ ({call.format('')} | first).id }}}}") == "a"
    peer = call.format(", peer='east'")
    assert render(views, f"{{{{ ({peer} | first).id }}}}") == "b"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        ("key('a?ns=team')", "key: ?ns=team needs Consul Enterprise"),
        ("service('a?partition=p')", "?partition=p needs Consul Enterprise"),
        ("service('a?sameness-group=g')", "?sameness-group=g needs Consul Enterprise"),
        ("services('?ns=x')", "services: ?ns=x needs Consul Enterprise"),
        ("ls('a?peer=x')", "prefix: ?peer=x is not known"),
        ("node('a?colour=red')", "node: ?colour=red is not known"),
    ],
)
def test_other_words_are_errors(call: str, words: str) -> None:
    with pytest.raises(TemplateError, match=r"^t:1: ") as caught:
        render(FakeViews(), f"{{{{ {call} }}}}")
    assert words in str(caught.value)
