"""Texts of servers become the classes the HTTP face knows."""

from __future__ import annotations

import pytest

from pyconsul.net.rpc_errors import (
    RpcConnectionError,
    broken_call,
    dial_error,
    error_from_text,
)
from pyconsul.types.errors import (
    AclDisabledError,
    BadRequestError,
    CommandError,
    ConsulError,
    NoLeaderError,
    NoPathToDatacenterError,
    NoServersError,
    NotFoundError,
    PermissionDeniedError,
    TooManyRequestsError,
)


@pytest.mark.parametrize(
    "error",
    [
        NoLeaderError(),
        NoPathToDatacenterError(),
        NoServersError(),
        PermissionDeniedError(),
        AclDisabledError(),
        NotFoundError("Query not found"),
        TooManyRequestsError("RPC rate limit exceeded"),
        BadRequestError("Must provide Coord"),
        ConsulError("Must provide node"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("relays", [0, 1, 3])
def test_errors_survive_the_wire(error: ConsulError, relays: int) -> None:
    again = error_from_text("rpc error making call: " * relays + str(error))
    assert type(again) is type(error)
    assert str(again) == str(error)


def test_texts_around_a_known_one_are_kept() -> None:
    error = error_from_text("failed to apply: Permission denied: node write")
    assert isinstance(error, PermissionDeniedError)
    assert str(error) == "failed to apply: Permission denied: node write"
    assert isinstance(error_from_text("wait: No cluster leader"), NoLeaderError)


def test_a_cause_inside_another_error_is_no_bad_request() -> None:
    text = 'Session TTL \'1x\' invalid: time: unknown unit "x" in duration "1x"'
    assert type(error_from_text(text)) is ConsulError
    refused = CommandError("Missing node registration")
    assert type(error_from_text(str(refused))) is ConsulError


def test_connection_failures_say_whether_the_call_was_sent() -> None:
    refused = dial_error("1.2.3.4:8300", ConnectionRefusedError(111, "refused"))
    assert isinstance(refused, RpcConnectionError)
    assert not refused.sent
    assert str(refused).endswith("dial tcp 1.2.3.4:8300: connect: connection refused")
    late = dial_error("1.2.3.4:8300", TimeoutError())
    assert str(late).endswith("dial tcp 1.2.3.4:8300: i/o timeout")
    assert broken_call(sent=True).sent
