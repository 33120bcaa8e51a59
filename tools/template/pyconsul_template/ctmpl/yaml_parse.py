"""``parseYAML``: a template's error for what is no YAML."""

from __future__ import annotations

from typing import Any

from pyconsul_client import yaml_parse
from pyconsul_template.ctmpl.errors import GoExecError


def parse_yaml(text: str) -> Any:
    """Return the value of a YAML text, ``{}`` for an empty one.

    Raises GoExecError.
    """
    try:
        return yaml_parse.parse_yaml(text)
    except yaml_parse.YamlError as error:
        raise GoExecError(str(error)) from None
