"""Lookups of the mesh, which an agent without one cannot answer."""

from __future__ import annotations

import pytest
from template_fakes import FakeViews, entry

from pyconsul_client.queries import Query
from pyconsul_template.render import Template, TemplateSource
from pyconsul_template.source import Source


def rendered(views: FakeViews, text: str) -> bytes:
    """Return a template's text; it has to be complete."""
    found = Template(TemplateSource(contents=text), Source(views)).render()
    assert found.outcome.complete
    return found.content


@pytest.fixture
def views() -> FakeViews:
    return FakeViews()


def test_intentions(views: FakeViews) -> None:
    both = [
        {"SourceName": "a", "DestinationName": "web", "Action": "allow"},
        {"SourceName": "*", "DestinationName": "web", "Action": "deny"},
    ]
    views.answer(Query("/v1/connect/intentions"), both)
    text = "{{ intention('a', 'web').Action }} {{ intention('b', 'web') }}"
    assert rendered(views, text) == b"allow None"
    text = "{{ intentions() | map(attribute='SourceName') | join(' ') }}"
    assert rendered(views, text) == b"a *"


def test_certificates(views: FakeViews) -> None:
    roots = {"Roots": [{"ID": "1", "RootCert": "PEM", "Active": True}]}
    views.answer(Query("/v1/agent/connect/ca/roots"), roots)
    views.answer(Query("/v1/agent/connect/ca/leaf/web"), {"CertPEM": "LEAF"})
    text = "{{ (caRoots() | first).RootCertPEM }} {{ ca_leaf('web').CertPEM }}"
    assert rendered(views, text) == b"PEM LEAF"


def test_the_mesh_and_peers(views: FakeViews) -> None:
    query = Query("/v1/health/connect/web", (("passing", "1"),))
    seen: list[Query] = []
    views.on_change = seen.append
    source = Source(views)
    template = Template(
        TemplateSource(contents="{{ (connect('web') | first).node }}"), source
    )
    assert not template.render().outcome.complete
    (asked,) = views.views
    assert (asked.path, asked.params) == (query.path, query.params)
    views.answer(asked, [entry("n1", "w1")])
    assert seen == [asked]
    assert template.render().content == b"n1"
    views.answer(Query("/v1/peerings", blocking=False), None)
    assert rendered(views, "{{ peerings() | length }}") == b"0"


def test_what_is_not_there_yet(views: FakeViews) -> None:
    names = (
        *("intention('a', 'b').Action", "config_entry('k', 'n').Name", "query('q')"),
        *("session('s').Name", "coordinate('n')", "connect('web')", "ca_roots()"),
    )
    for name in names:
        source = TemplateSource(contents=f"{{{{ {name} }}}}")
        assert Template(source, Source(views)).render().outcome.waiting, name
