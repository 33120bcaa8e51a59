"""Functions and filters that a Jinja2 template gets only when it names them.

Every name in an environment costs each render a little. An unknown one of these
is looked for in no template but the one whose text has it.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from typing import Any

from pyconsul_template.helpers import HelperError, as_filter
from pyconsul_template.pending import absorbing

_WORD = re.compile(r"\b[A-Za-z]\w+")
_FUNCTIONS = {
    **{"parse_csv": "parse_csv", "parseCSV": "parse_csv"},
    **{"sort_by": "sort_by", "sortBy": "sort_by"},
}
"""Also filters; the value is the last argument."""
_FILTERS = {
    **{"fromjson": "from_json", "from_json": "from_json", "from_yaml": "from_yaml"},
    **{name: name for name in ("to_nice_json", "to_nice_yaml", "ipaddr")},
    **{name: name for name in ("regex_replace", "regex_search", "regex_findall")},
    **{name: name for name in ("b64encode", "b64decode")},
}
"""Filters alone, the value first."""
_NEEDS = {
    **dict.fromkeys(("secret", "secrets", "vault", "pkiCert", "pki_cert"), "Vault"),
    **dict.fromkeys(
        (
            *("nomadServices", "nomadService", "nomadVarList", "nomadVarListSafe"),
            *("nomadVar", "nomadVarExists", "nomad_services", "nomad_service"),
            *("nomad_var_list", "nomad_var_list_safe", "nomad_var"),
            "nomad_var_exists",
        ),
        "Nomad",
    ),
    **dict.fromkeys(
        (
            *("exportedServices", "importedServices", "partitions"),
            *("exported_services", "imported_services"),
        ),
        "Consul Enterprise",
    ),
}
Table = dict[str, Callable[..., Any]]


def named_in(text: str) -> tuple[Table, Table]:
    """Return the functions and the filters that a template's text names."""
    words = set(_WORD.findall(text))
    functions: Table = {
        word: absorbing(_later(_FUNCTIONS[word])) for word in words & _FUNCTIONS.keys()
    }
    filters: Table = {name: as_filter(own) for name, own in functions.items()}
    filters |= {
        word: absorbing(_later(_FILTERS[word])) for word in words & _FILTERS.keys()
    }
    functions |= {word: _refused(word) for word in words & _NEEDS.keys()}
    return functions, filters


def _later(name: str) -> Callable[..., Any]:
    """Return a function whose module is imported when it is called."""

    def call(*args: Any, **kwargs: Any) -> Any:
        found = importlib.import_module("pyconsul_template.formats")
        return getattr(found, name)(*args, **kwargs)

    return call


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*_args: Any, **_kwargs: Any) -> Any:
        raise HelperError(f"{name} needs {_NEEDS[name]}, which is not supported")

    return refuse
