"""The one table from errors to statuses (reference 2.2).

The nearest ancestor in the table decides. Texts relayed from another server
keep their meaning: one that says ``Permission denied`` is a 403 whatever its
class, because clients match on the text and the status alike.
"""

from __future__ import annotations

import logging

from pyconsul.http.routing import Response, text_response
from pyconsul.types.errors import (
    AclDisabledError,
    BadRequestError,
    ConflictError,
    ConsulError,
    NotFoundError,
    PermissionDeniedError,
    TooLargeError,
    TooManyRequestsError,
    TryLaterError,
)

_log = logging.getLogger(__name__)

STATUSES: dict[type[BaseException], int] = {
    BadRequestError: 400,
    AclDisabledError: 401,
    PermissionDeniedError: 403,
    NotFoundError: 404,
    ConflictError: 409,
    TooLargeError: 413,
    TooManyRequestsError: 429,
    TryLaterError: 503,
    ConsulError: 500,
}


def status_of(error: BaseException) -> int:
    """Return the status an error is answered with."""
    for ancestor in type(error).__mro__:
        status = STATUSES.get(ancestor)
        if status is not None:
            text = str(error)
            if status == 500 and (
                "Permission denied" in text or "ACL not found" in text
            ):
                return 403
            return status
    return 500


def error_response(error: BaseException) -> Response:
    """Return the answer to an error; unexpected ones are logged."""
    if isinstance(error, ConsulError):
        return text_response(status_of(error), str(error))
    _log.error("http: a handler failed", exc_info=error)
    return text_response(500, f"internal error: {type(error).__name__}")
