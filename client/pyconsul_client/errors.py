"""Every error the client library raises.

``str(error)`` is the text the commands print; it never holds a token.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors of the library."""

    retryable: bool = False
    """Whether asking again later may help."""


class TransportError(ClientError):
    """The agent could not be reached, or the connection broke or timed out."""

    retryable = True


class ConnectionRefusedByLimitError(TransportError):
    """The server turned a new connection away: too many from this address."""


class UnansweredError(TransportError):
    """A new connection ended before the first byte of an answer."""


class ProtocolError(TransportError):
    """The peer's bytes are not the HTTP or JSON expected, or exceed a limit."""


class ApiError(ClientError):
    """The agent answered with a status that is not a success.

    ``retry_after`` is in seconds, ``None`` when the agent did not say.
    """

    def __init__(
        self, status: int, text: str, retry_after: float | None = None
    ) -> None:
        self.status = status
        self.text = text
        self.retry_after = retry_after
        # Consul answers reads with 500 while it has no leader: worth retrying.
        self.retryable = status == 429 or status >= 500
        super().__init__(status, text)

    def __str__(self) -> str:
        return f"Unexpected response code: {self.status} ({self.text})"


class OptionsError(ClientError):
    """An option, flag or environment variable makes no sense."""


class SettingsError(ClientError):
    """A settings file is wrong; the text names the file and the field."""


class FlagError(ClientError):
    """A command line is wrong; the text is that of Go's ``flag`` package."""


class HelpRequested(ClientError):
    """``-h``, ``-help`` or ``--help`` was given."""


class LockConflictError(ClientError):
    """The keys of a lock are used for something else, or with another limit."""


class LockTimeoutError(ClientError):
    """A lock was not acquired in time."""


class LockLostError(ClientError):
    """A lock that was held is not any more; the text says why."""
