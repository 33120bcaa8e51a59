"""Join addresses: every accepted form, and the words of every failure."""

from __future__ import annotations

import asyncio
import errno
import os

import pytest

from pyconsul.net.gossip_addresses import (
    AddressError,
    JoinTarget,
    dial_failure,
    endpoint,
    join_failures,
    parse_target,
    resolve,
)


@pytest.mark.parametrize(
    ("text", "host", "port", "node"),
    [
        ("10.0.0.1", "10.0.0.1", 8301, ""),
        ("10.0.0.1:9", "10.0.0.1", 9, ""),
        ("db.example", "db.example", 8301, ""),
        ("db.example:77", "db.example", 77, ""),
        ("::1", "::1", 8301, ""),
        ("[::1]", "::1", 8301, ""),
        ("[::1]:90", "::1", 90, ""),
        ("n1/10.0.0.1:9", "10.0.0.1", 9, "n1"),
        ("n1/db.example", "db.example", 8301, "n1"),
        ("10.0.0.1:0", "10.0.0.1", 8301, ""),
    ],
)
def test_accepted_forms(text: str, host: str, port: int, node: str) -> None:
    assert parse_target(text, 8301) == JoinTarget(host, port, node)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("/10.0.0.1", "empty node name"),
        ("a:b:c", "too many colons"),
        ("[::1", "missing ']'"),
        ("[::1]:", "missing port"),
        ("h:port", "invalid syntax"),
        ("h:99999", "invalid syntax"),
        ("h:²", "invalid syntax"),
        ("", "no such host"),
        (":8301", "no such host"),
    ],
)
def test_refused_forms(text: str, words: str) -> None:
    with pytest.raises(AddressError, match=words.replace("'", ".")):
        parse_target(text, 8301)


def test_names_resolve_and_unknown_ones_say_so() -> None:
    found = asyncio.run(resolve("n2/localhost:9", 8301))
    assert JoinTarget("127.0.0.1", 9, "n2") in found
    with pytest.raises(AddressError, match=r"lookup a\.\.b: no such host"):
        asyncio.run(resolve("a..b", 8301))


def test_texts_of_failures() -> None:
    refused = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(111))
    line = dial_failure("127.0.0.1", 8301, refused)
    assert line == "dial tcp 127.0.0.1:8301: connect: connection refused"
    late = dial_failure("10.0.0.1", 1, TimeoutError())
    assert late == "dial tcp 10.0.0.1:1: i/o timeout"
    assert endpoint("::1", 5) == "[::1]:5"
    assert join_failures(["a"]) == "1 error occurred:\n\t* a\n\n"
    assert join_failures(["a", "b"]) == "2 errors occurred:\n\t* a\n\t* b\n\n"
