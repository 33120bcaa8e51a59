from __future__ import annotations

import io
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

import pytest

ENTRY = {
    "Key": "a/b",
    "Value": "eA==",
    "Flags": 7,
    "CreateIndex": 3,
    "ModifyIndex": 5,
    "LockIndex": 0,
}


def test_get_prints_the_value_as_it_is_and_a_newline(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/app/a?raw", b"one\ntwo")
    assert run("kv", "get", "/app/a") == (0, "one\ntwo\n", "")


def test_get_of_an_absent_key_fails(agent: Any, run: Any) -> None:
    assert run("kv", "get", "nope") == (1, "", "Error! No key exists at: nope\n")


def test_get_shows_all_of_a_key_in_fixed_columns(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/a/b", [ENTRY])
    assert run("kv", "get", "-detailed", "a/b")[1].splitlines() == [
        "CreateIndex      3",
        "Flags            7",
        "Key              a/b",
        "LockIndex        0",
        "ModifyIndex      5",
        "Session          -",
        "Value            x",
    ]


def test_tabs_in_a_value_are_cells_of_the_table(agent: Any, run: Any) -> None:
    for value, shown in (
        ("a\tb", "a      b"),
        (
            "l1\nl2\tc\nl3\td\te\n",
            "l1\nl2               c\nl3               d      e\n",
        ),
        ("a\vb\fc", "a      b\nc"),
        ("\t", ""),
        ("é\t", "é"),
    ):
        given = b64encode(value.encode()).decode()
        agent.answer("GET /v1/kv/a/b", [{**ENTRY, "Value": given}])
        out = run("kv", "get", "-detailed", "a/b")[1]
        assert out.partition("Value")[2] == f"            {shown}\n"


def test_export_escapes_as_go(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/?recurse", [{**ENTRY, "Key": "<&>\u2028é"}])
    out = run("kv", "export")[1]
    assert '"key": "\\u003c\\u0026\\u003e\\u2028é"' in out


def test_get_recurse_prints_name_and_value(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/a?recurse", [ENTRY, {**ENTRY, "Value": None}])
    assert run("kv", "get", "-recurse", "a") == (0, "a/b:x\na/b:\n", "")
    assert run("kv", "get", "-recurse", "-base64", "a")[1] == "a/b:eA==\na/b:\n"


def test_names_and_trees_that_match_nothing_are_no_error(agent: Any, run: Any) -> None:
    assert run("kv", "get", "-recurse", "zz") == (0, "", "")
    assert run("kv", "get", "-keys", "zz") == (0, "", "")


def test_the_separator_can_be_empty(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/a?keys&separator", ["a/b", "a/c/d"])
    assert run("kv", "get", "-keys", "-separator=", "a")[1] == "a/b\na/c/d\n"


def test_a_name_is_percent_encoded_but_for_slashes(agent: Any, run: Any) -> None:
    run("kv", "get", "a b/c?d/é%")
    assert agent.asked[0][0] == "GET /v1/kv/a%20b/c%3Fd/%C3%A9%25?raw"


def test_reads_leave_the_body_out_of_the_error(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/a?raw", b"Permission denied", 403)
    error = "Error querying Consul agent: Unexpected response code: 403\n"
    assert run("kv", "get", "a") == (1, "", error)


def test_datacenter_and_stale_go_into_the_query(agent: Any, run: Any) -> None:
    run("kv", "get", "-stale", "-datacenter", "dc2", "a")
    run("kv", "put", "-stale", "-datacenter=dc2", "a")
    targets = [target for target, _, _ in agent.asked]
    assert targets == ["GET /v1/kv/a?raw&stale&dc=dc2", "PUT /v1/kv/a?dc=dc2"]


def test_put_takes_data_of_a_file(agent: Any, run: Any, tmp_path: Path) -> None:
    (tmp_path / "value").write_bytes(b"\xff\n")
    agent.answer("PUT /v1/kv/a?flags=42", b"true")
    arguments = ("kv", "put", "-flags=42", "a", f"@{tmp_path / 'value'}")
    assert run(*arguments) == (0, "Success! Data written to: a\n", "")
    assert agent.asked[0][1] == b"\xff\n"


def test_put_takes_data_of_standard_input(
    agent: Any, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"in\x00put")))
    agent.answer("PUT /v1/kv/a", b"true")
    assert run("kv", "put", "a", "-")[0] == 0
    assert agent.asked[0][1] == b"in\x00put"


@pytest.mark.parametrize(
    ("arguments", "query", "error"),
    [
        (("-cas",), "cas=0", "Did not write to k: CAS performed with index=0"),
        (("-cas", "-modify-index=4"), "cas=4", "Did not write to k: CAS failed"),
        (("-acquire", "-session=s"), "acquire=s", "Did not acquire lock"),
        (("-release", "-session=s"), "release=s", "Did not release lock"),
    ],
)
def test_a_refused_put_fails(
    agent: Any, run: Any, arguments: tuple[str, ...], query: str, error: str
) -> None:
    agent.answer(f"PUT /v1/kv/k?{query}", b"false")
    status, out, err = run("kv", "put", *arguments, "k", "v")
    assert (status, out) == (1, "")
    assert err.startswith(f"Error! {error}")


def test_locking_needs_a_session(agent: Any, run: Any) -> None:
    status, _, err = run("kv", "put", "-acquire", "k")
    assert (status, agent.asked) == (1, [])
    assert err == "Error! Missing -session (required with -acquire and -release)\n"


def test_bad_base64_writes_nothing(agent: Any, run: Any) -> None:
    status, _, err = run("kv", "put", "-base64", "k", "a*==")
    assert (status, agent.asked) == (1, [])
    assert err.endswith("illegal base64 data at input byte 1\n")


def test_delete_with_a_prefix_needs_the_word_recurse(agent: Any, run: Any) -> None:
    agent.answer("DELETE /v1/kv/?recurse", b"true")
    assert run("kv", "delete", "")[0] == 1
    assert run("kv", "delete", "-recurse=false", "")[0] == 1
    assert agent.asked == []
    assert run("kv", "delete", "-recurse")[0] == 0


def test_delete_with_cas_needs_an_index(agent: Any, run: Any) -> None:
    assert "greater than than 0" in run("kv", "delete", "-cas", "k")[2]
    agent.answer("DELETE /v1/kv/k?cas=5", b"false")
    refused = "Error! Did not delete key k: CAS failed\n"
    assert run("kv", "delete", "-cas", "-modify-index", "5", "k")[2] == refused


def test_export_is_indented_by_tabs(agent: Any, run: Any) -> None:
    agent.answer("GET /v1/kv/a?recurse", [ENTRY])
    assert run("kv", "export", "a")[1] == (
        '[\n\t{\n\t\t"key": "a/b",\n\t\t"flags": 7,\n\t\t"value": "eA=="\n\t}\n]\n'
    )
    assert run("kv", "export", "zz")[1] == "[]\n"


def test_an_export_can_be_imported_elsewhere(agent: Any, run: Any) -> None:
    agent.answer("PUT /v1/kv/copy/a/b?flags=7", b"true")
    data = '[{"key":"a/b","flags":7,"value":"eA=="}]'
    done = run("kv", "import", "-prefix=copy/", data)
    assert done == (0, "Imported: copy/a/b\n", "")
    assert agent.asked[0][1] == b"x"


@pytest.mark.parametrize(
    "data", ["nonsense", "{}", "[1]", '[{"flags":-1}]', "[" * 9999]
)
def test_an_import_of_something_else_fails(agent: Any, run: Any, data: str) -> None:
    status, _, err = run("kv", "import", data)
    assert (status, agent.asked) == (1, [])
    assert err.startswith("Cannot unmarshal data: ")


def test_an_import_of_null_writes_nothing(agent: Any, run: Any) -> None:
    assert run("kv", "import", "null") == (0, "", "")
    assert not agent.asked


def test_an_import_refuses_a_key_that_begins_with_a_slash(agent: Any, run: Any) -> None:
    assert run("kv", "import", '[{"key":"/x","value":"eA=="}]') == (
        1,
        "",
        "Error! Failed writing data for key /x: Invalid key. "
        "Key must not begin with a '/': /x\n",
    )
    assert not agent.asked


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        (
            "-ca-file=/nowhere/ca",
            "Error loading CA File: open /nowhere/ca: no such file or directory",
        ),
        ("-client-cert=/x", "both client cert and client key must be provided"),
        ("-client-key=/x", "both client cert and client key must be provided"),
    ],
)
def test_files_of_tls_are_refused_even_without_it(
    agent: Any, run: Any, flag: str, text: str
) -> None:
    status, out, err = run("kv", "get", flag, "a")
    assert (status, out) == (1, "")
    assert err == f"Error connecting to Consul agent: {text}\n"
    assert not agent.asked


def test_import_names_the_key_with_bad_base64(agent: Any, run: Any) -> None:
    status, _, err = run("kv", "import", '[{"key":"bad","value":"***"}]')
    assert status == 1
    assert err.startswith("Error base 64 decoding value for key bad: ")
