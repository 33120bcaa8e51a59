"""``?filter`` over the agent's maps of services and checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from pyconsul.filter import HEALTH_CHECK, NODE_SERVICE, compile_filter
from pyconsul.http.routing import Request

T = TypeVar("T")


def filtered(request: Request, found: Mapping[str, T], noun: str) -> Mapping[str, T]:
    """Return what the expression selects; raises ``BadRequestError``."""
    expression = request.query.get("filter")
    if not expression:
        return found
    if noun == "checks" and not found:
        # Observed: Consul looks at the expression only where there are checks.
        return found
    schema = NODE_SERVICE if noun == "services" else HEALTH_CHECK
    matches = compile_filter(expression, schema)
    return {key: value for key, value in found.items() if matches(value)}
