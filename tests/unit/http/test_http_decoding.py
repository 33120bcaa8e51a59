from __future__ import annotations

import pytest

from pyconsul.http.decoding import (
    INT,
    LOCK_DELAY,
    STRING,
    build,
    decode,
    decode_as,
    decode_list,
    list_of,
)
from pyconsul.http.shapes import NODE_SERVICE, REGISTER, TXN_OP
from pyconsul.types.errors import BadRequestError
from pyconsul.types.messages import RegisterRequest
from pyconsul.types.records import NodeService


def test_names_match_without_case_and_null_is_nothing() -> None:
    fields = decode(b'{"NODE":"n","address":null,"skipnodeupdate":true}', REGISTER)
    assert fields == {"Node": "n", "SkipNodeUpdate": True}


def test_last_key_wins_and_null_resets() -> None:
    assert decode(b'{"Node":"a","node":"b"}', REGISTER) == {"Node": "b"}
    assert decode(b'{"Node":"a","node":null}', REGISTER) == {}


def test_data_after_the_value_is_ignored() -> None:
    assert decode(b' {"Node":"a"} garbage', REGISTER) == {"Node": "a"}


def test_null_body_is_empty() -> None:
    assert decode(b"null", REGISTER) == {}
    assert decode_list(b"null", TXN_OP) == []


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "EOF"),
        (b"{", "unexpected EOF"),
        (b'{"Node":"x', "unexpected EOF"),
        (b"nope", "invalid character 'n' looking for beginning of value"),
        (b'{"Bogus":1}', 'json: unknown field "Bogus"'),
        (b"[]", "json: cannot unmarshal array into Go value of type struct"),
        (
            b'{"Service":{"Port":"eighty"}}',
            "json: cannot unmarshal string into Go struct field .Service.Port "
            "of type int",
        ),
        (
            b'{"Service":{"Port":8.5}}',
            "json: cannot unmarshal number 8.5 into Go struct field .Service.Port "
            "of type int",
        ),
        (b'{"Node":NaN}', "invalid character 'N' looking for beginning of value"),
        (
            b'{"Check":{"Definition":{"Interval":"abc"}}}',
            'time: invalid duration "abc"',
        ),
        (b'{"Check":{"Definition":{"Interval":""}}}', 'time: invalid duration ""'),
    ],
)
def test_refusals(body: bytes, text: str) -> None:
    with pytest.raises(BadRequestError) as caught:
        decode(body, REGISTER)
    assert str(caught.value) == "Request decode failed: " + text


def test_nesting_is_bounded() -> None:
    with pytest.raises(BadRequestError):
        decode(b"[" * 100_000, REGISTER)


@pytest.mark.parametrize("text", ["9" * 5000, "-" + "9" * 5000, "1e999"])
@pytest.mark.parametrize("field", ["Port", "ModifyIndex"])
def test_numbers_that_no_field_holds_are_refused(text: str, field: str) -> None:
    body = f'{{"Service": {{"{field}": {text}}}}}'.encode()
    with pytest.raises(BadRequestError, match="cannot unmarshal number"):
        decode(body, REGISTER)


def test_durations_that_are_too_long_are_refused() -> None:
    body = f'{{"Check":{{"Definition":{{"Interval":"{"9" * 5000}s"}}}}}}'.encode()
    with pytest.raises(BadRequestError, match="time: invalid duration"):
        decode(body, REGISTER)


def test_half_a_surrogate_is_no_text() -> None:
    body = rb'{"Node":"\ud800x\ud83d\ude00","NodeMeta":{"\udfff":"a"}}'
    fields = decode(body, REGISTER)
    assert fields == {"Node": "\ufffdx\U0001f600", "NodeMeta": {"\ufffd": "a"}}


def test_durations_and_unknown_fields_of_definitions() -> None:
    body = b"""{"Node":"n","Check":{"Name":"c","Definition":{
        "Interval":"1m","TimeoutDuration":2500.7,"Whatever":1}}}"""
    request = decode_as(body, REGISTER, RegisterRequest)
    assert request.check is not None
    assert request.check.definition.interval == 60_000_000_000
    assert request.check.definition.timeout == 2500


def test_service_with_proxy_in_snake_case() -> None:
    body = b"""{"ID":"w","Service":"web","Weights":{"Passing":3},
        "TaggedAddresses":{"lan":{"Address":"10.0.0.1","port":1}},
        "Proxy":{"destination_service_name":"db",
            "upstreams":[{"local_bind_port":99}],"config":{"Any_Key":1}}}"""
    service = decode_as(body, NODE_SERVICE, NodeService)
    assert service.weights is not None
    assert service.weights.passing == 3
    assert service.tagged_addresses is not None
    assert service.tagged_addresses["lan"].port == 1
    assert service.proxy == {
        "DestinationServiceName": "db",
        "Upstreams": [{"LocalBindPort": 99}],
        "Config": {"Any_Key": 1},
    }


def test_base64() -> None:
    (operation,) = decode_list(b'[{"kv":{"Value":"AP8="}}]', TXN_OP)
    assert operation["KV"]["Value"] == b"\x00\xff"
    with pytest.raises(BadRequestError, match="illegal base64 data at input byte 3"):
        decode_list(b'[{"KV":{"Value":"not base64!"}}]', TXN_OP)


def test_namespace_fields_may_be_empty_or_default() -> None:
    assert decode(b'{"Node":"n","Namespace":"default"}', REGISTER) == {"Node": "n"}
    with pytest.raises(BadRequestError, match='unknown field "Namespace"'):
        decode(b'{"Node":"n","Namespace":"team"}', REGISTER)


@pytest.mark.parametrize(
    ("given", "ns"),
    [(5, 5_000_000_000), (999, 999_000_000_000), (1000, 1000), ("2s", 2_000_000_000)],
)
def test_lock_delay(given: object, ns: int) -> None:
    assert LOCK_DELAY(given, "") == ns


def test_build_explains_itself() -> None:
    with pytest.raises(BadRequestError, match=r"^Bad: "):
        build({"Port": "x"}, NodeService, "Bad: ")


def test_null_among_texts_is_the_empty_text() -> None:
    assert list_of(STRING)(["a", None], "") == ["a", ""]
    assert list_of(INT)([1, None], "") == [1]
