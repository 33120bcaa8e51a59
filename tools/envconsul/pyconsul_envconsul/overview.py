"""``envconsul status``: what a running instance says of itself, for people."""

from __future__ import annotations

from pyconsul_client.tool import exits
from pyconsul_client.tool.exits import ToolError
from pyconsul_client.tool.status import ask, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def fetch(address: str) -> str:
    """Return the state of the instance at ``-http-addr``: names, never values.

    Raises ToolError (14) where none answers.
    """
    found: Any = ask(address)
    try:
        return overview(found)
    except (AttributeError, KeyError, TypeError) as error:
        raise ToolError(exits.FAILED, f"{address}: not an envconsul") from error


def overview(status: Mapping[str, Any]) -> str:
    """Return lines for people of what ``/status`` says."""
    child, counts = status["child"], status["counts"]
    runs = f"runs as process {child['pid']}" if child["running"] else "does not run"
    rows = [
        ("child", f"{runs}, restarted {child['restarts']} times"),
        (
            "seen",
            f"{counts['changes']} changes, {counts['errors']} errors, "
            f"{counts['reloads']} reloads",
        ),
        ("sources", ", ".join(status["sources"])),
        ("variables", ", ".join(status["variables"]) or "none"),
    ]
    if status["missing"]:
        rows.append(("missing", ", ".join(status["missing"])))
    return "".join(f"{name:<10}{printable(text)}\n" for name, text in rows)
