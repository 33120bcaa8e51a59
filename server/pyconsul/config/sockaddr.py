"""Address templates in the configuration: the client library's, our error.

The forms are those of ``config.md`` section 8.
"""

from __future__ import annotations

from pyconsul.types.errors import ConfigError
from pyconsul_client import sockaddr
from pyconsul_client.sockaddr import Interface, Interfaces, SockaddrError

__all__ = ["Interface", "Interfaces", "TemplateError", "evaluate"]


class TemplateError(ConfigError):
    """The template cannot be read or evaluated; the text says why."""


def evaluate(text: str, interfaces: Interfaces) -> str:
    """Return a text with its templates filled in; raises ``TemplateError``."""
    try:
        return sockaddr.evaluate(text, interfaces)
    except SockaddrError as error:
        raise TemplateError(str(error)) from None
