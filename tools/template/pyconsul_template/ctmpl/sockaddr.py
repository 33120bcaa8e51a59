"""``sockaddr``: this machine's addresses, by go-sockaddr's templates."""

from __future__ import annotations

from pyconsul_template.ctmpl.errors import GoExecError


def evaluate(*texts: str) -> str:
    """Return what a template's action gives: ``GetPrivateIP``, pipelines of filters."""
    # Imported when called: few templates ask.
    from pyconsul_client.interfaces import interfaces
    from pyconsul_client.sockaddr import SockaddrError, evaluate

    text = " ".join(texts).strip()
    if not text.startswith("{{"):
        text = f"{{{{ {text} }}}}"
    try:
        return evaluate(text, interfaces)
    except SockaddrError as error:
        raise GoExecError(f"sockaddr: {error}") from None
