"""HCL 1 of configuration files: the client's reader, with errors of ours.

The tools read the same language; see ``pyconsul_client.hcl`` for what it gives.
"""

from __future__ import annotations

from typing import Any

from pyconsul.types.errors import ConfigError
from pyconsul_client import hcl


class HclError(ConfigError):
    """The text is not HCL 1; the text says where."""


def loads(text: str) -> dict[str, Any]:
    """Return the values of an HCL 1 text; raises ``HclError``."""
    try:
        return hcl.loads(text)
    except hcl.HclError as error:
        raise HclError(str(error)) from None


def parse_hcl(text: str, source: str) -> dict[str, Any]:
    """Return the values of a configuration text; errors name ``source``."""
    try:
        return loads(text)
    except HclError as error:
        raise ConfigError(f"failed to parse {source}: {error}") from None
