"""Sprig's functions for Jinja2 templates: same names, same results.

Only those a template names are made, so that others do not pay for 200 names.
Each is a function with sprig's order of arguments and a filter, which has the
value as its last argument: ``sprig_trunc(5, s)`` or ``s | sprig_trunc(5)``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from jinja2 import Undefined

from pyconsul_template.helpers import HelperError
from pyconsul_template.pending import Pending

_NAME = re.compile(r"\bsprig_(\w+)")


def sprigs_in(text: str) -> dict[str, Callable[..., Any]]:
    """Return the functions a template's text names; an unknown one is left out."""
    if "sprig_" not in text:
        return {}
    from pyconsul_template.ctmpl.sprig_all import TABLE

    names = {name for name in _NAME.findall(text) if name in TABLE}
    return {f"sprig_{name}": _adapted(name) for name in sorted(names)}


def _adapted(name: str) -> Callable[..., Any]:
    from pyconsul_template.ctmpl.calls import Function, bound
    from pyconsul_template.ctmpl.errors import GoExecError
    from pyconsul_template.ctmpl.sprig_all import TABLE

    function = Function(f"sprig_{name}", *TABLE[name])
    calls: dict[int, Callable[..., Any]] = {}

    def call(*args: Any) -> Any:
        for value in args:
            if type(value) is Pending:
                return value
        count = len(args)
        if count not in calls:
            if wrong := function.wrong_count(function.name, count):
                raise HelperError(wrong)
            calls[count] = bound(function, count)
        # Go knows no undefined value, but nil.
        plain = (None if isinstance(value, Undefined) else value for value in args)
        try:
            return calls[count](*plain)
        except GoExecError as error:
            text = str(error)
            if function.name not in text:
                text = f"{function.name}: {text}"
            raise HelperError(text) from error

    return call
