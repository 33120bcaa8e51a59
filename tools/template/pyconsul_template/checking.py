"""``check``: configuration and templates read without a server.

Every template is looked at, not only up to the first wrong one; each problem is
named with file, line and, where there is one, a hint.
"""

from __future__ import annotations

import sys

from pyconsul_client.goflags import FlagSet
from pyconsul_template.config import ConfigError, TemplatePlan
from pyconsul_template.each import EachTemplate
from pyconsul_template.flags import settings_of
from pyconsul_template.render import Template, TemplateError
from pyconsul_template.source import NoData, Source
from pyconsul_template.syntax import open_template

EXIT_OK = 0
EXIT_RUN = 14
EXIT_CONFIG = 15
_GO_WORDS = ("range ", "with ", "if ", "end", "$", ".", "else", "define ", "/*")


def check(flags: FlagSet) -> int:
    """Print what is wrong to stderr; return the exit status."""
    try:
        settings = settings_of(flags)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return EXIT_CONFIG
    problems = [line for plan in settings.templates for line in problems_of(plan)]
    for line in problems:
        print(line, file=sys.stderr)
    if problems:
        return EXIT_RUN
    count = len(settings.templates)
    print(f"{count} template{'' if count == 1 else 's'} and the configuration are good")
    return EXIT_OK


def problems_of(plan: TemplatePlan) -> list[str]:
    """Return what is wrong with a template, each ``file:line: text``."""
    try:
        template = open_template(plan.source, Source(NoData()))
    except TemplateError as error:
        return [f"{error}{_language_hint(plan)}"]
    problems: list[str] = []
    if isinstance(template, Template | EachTemplate):
        problems += [str(error) for error in template.lint()]
    try:
        # Lookups have no data, so only what is wrong without any shows.
        template.render()
    except TemplateError as error:
        if not problems:
            problems.append(str(error))
    return problems


def _language_hint(plan: TemplatePlan) -> str:
    """Return a hint when Go's language was read as Jinja2."""
    path = plan.source.path
    if path is None or plan.source.syntax not in ("auto", "jinja", "jinja2"):
        return ""
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return ""
    left = plan.source.left_delimiter
    inside = (part.lstrip("- ") for part in text.split(left)[1:])
    if any(part.startswith(_GO_WORDS) for part in inside):
        return ' (a Go template? name it *.ctmpl, or set syntax = "gotemplate")'
    return ""
