"""Which language a template is in: Jinja2, or Go's as consul-template reads it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from pyconsul_template.engine import Outcome
from pyconsul_template.render import Rendered, Template, TemplateSource
from pyconsul_template.source import Entry, Source

GO_SUFFIXES = frozenset((".ctmpl", ".tmpl", ".tpl"))
"""Files that hold Go templates unless told otherwise."""
SYNTAXES = {
    "auto": None,
    **dict.fromkeys(("jinja2", "jinja"), False),
    **dict.fromkeys(("gotemplate", "go", "ctmpl"), True),
}
"""Values of the ``syntax`` option; whether that is Go's."""


class TemplateLike(Protocol):
    """A compiled template bound to a source of data, in either language."""

    @property
    def source(self) -> TemplateSource:
        """Where its text is."""
        ...

    def render(self, variables: Mapping[str, Any] = ...) -> Rendered:
        """Render with the data there is now; raises ``TemplateError``."""
        ...

    def failed(self) -> Outcome[Entry]:
        """Return the outcome of the render that has just raised."""
        ...

    def files(self) -> frozenset[Path]:
        """Return the files the last render read."""
        ...

    def limits(self) -> Mapping[Entry, float]:
        """Return how long what the last render used may be absent, in seconds."""
        ...

    def parts(self) -> frozenset[Path]:
        """Return the files the template is made of."""
        ...


def is_go(source: TemplateSource) -> bool:
    """Return whether a template is in Go's language."""
    chosen = SYNTAXES[source.syntax]
    if chosen is not None:
        return chosen
    return source.path is not None and source.path.suffix in GO_SUFFIXES


def open_template(source: TemplateSource, data: Source) -> TemplateLike:
    """Compile a template in its language; raises ``TemplateError``."""
    if source.is_many:
        from pyconsul_template.each import EachTemplate

        return EachTemplate(source, data, open_one(source, data))
    return open_one(source, data)


def open_one(source: TemplateSource, data: Source) -> TemplateLike:
    """Compile the text of one file; raises ``TemplateError``."""
    if is_go(source):
        from pyconsul_template.ctmpl.template import GoTemplate

        return GoTemplate(source, data)
    return Template(source, data)
