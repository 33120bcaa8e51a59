"""Watches as files have them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyconsul_client.errors import SettingsError
from pyconsul_watch.files import load
from pyconsul_watch.plans import HttpHandler

HCL = """
datacenter = "dc1"   # the agent's
watches = [
  { type = "key", key = "a", args = ["apply", "--now"] },
  { type = "service", service = "web", tag = ["x", "y"], passingonly = true
    handler_type = "http", token = "t", datacenter = "dc2"
    http_handler_config {
      path = "https://hooks.example/web"
      method = "put"
      timeout = "5s"
      tls_skip_verify = true
      header = { X-Key = ["k", "l"] }
    } },
]
watches { type = "nodes", stale = true, handler_type = "script", handler = "a | b" }
"""
JSON = """
{"ports": {"http": 1},
 "watches": [{"type": "checks", "state": "critical", "args": "page",
   "handler_type": "script"},
  {"type": "event", "name": "e", "handler_type": "http", "http_handler_config":
   {"path": "http://h/", "header": {"A": ["1"]}}}]}
"""


def test_both_forms_are_read(tmp_path: Path) -> None:
    path = tmp_path / "watches.hcl"
    path.write_text(HCL)
    key, service, nodes = load([str(path)])
    assert (key.path, key.argv, key.http) == ("/v1/kv/a", ("apply", "--now"), None)
    assert service.http == HttpHandler(
        path="https://hooks.example/web",
        method="PUT",
        timeout=5.0,
        header=(("X-Key", "k"), ("X-Key", "l")),
        tls_skip_verify=True,
    )
    assert service.params == (
        ("tag", "x"),
        ("tag", "y"),
        ("passing", "1"),
        ("dc", "dc2"),
    )
    assert (service.token, service.argv) == ("t", ())
    assert service.given == {
        "service": "web",
        "tag": ["x", "y"],
        "passingonly": True,
        "datacenter": "dc2",
    }
    assert nodes.argv[-2:] == ("-c", "a | b")
    assert ("stale", "") in nodes.params
    path = tmp_path / "watches.json"
    path.write_text(JSON)
    checks, event = load([str(path)])
    assert (checks.path, checks.argv) == ("/v1/health/state/critical", ("page",))
    assert event.http == HttpHandler(path="http://h/", header=(("A", "1"),))
    # The folder: both files by name, nothing else.
    (tmp_path / "watches.txt").write_text("nonsense {")
    assert load([str(tmp_path)]) == [key, service, nodes, checks, event]
    assert load([str(path), str(tmp_path / "watches.hcl")])[0] == checks


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "{}: no watches"),
        ("watches = 3", "{}: watches: expected a list of watches"),
        ("watches = [", "{}: At 1:"),
        ("watches { type = 'x' }", "{}: At 1:"),
        ('watches { type = "key", key = "a" }', "{}: Must define a watch handler"),
        (
            'watches { type = "key", args = ["a"] }',
            "{}: Failed to parse watch (map[string]interface {{}}{{",
        ),
        (
            'watches { type = "connect_roots", args = ["a"] }',
            "{}: Type connect_roots is not supported in the CLI tool",
        ),
        (
            'watches { type = "nodes", args = ["a"], token = "a\\nb" }',
            "{}: the token holds characters a header cannot carry",
        ),
        (
            'watches { type = "nodes", handler_type = "http"\n'
            'http_handler_config { path = "hooks" } }',
            "{}: an HTTP handler needs a URL",
        ),
        (
            'watches { type = "nodes", handler_type = "http"\n'
            'http_handler_config { path = "http://h", timeout = "5" } }',
            "{}: Failed to parse 'http_handler_config': timeout: ",
        ),
        (
            'watches { type = "nodes", handler_type = "mail" }',
            "{}: Unsupported watch handler type: mail",
        ),
    ],
)
def test_what_is_wrong_is_told_with_the_file(
    tmp_path: Path, text: str, error: str
) -> None:
    path = tmp_path / "w.hcl"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load([str(path)])
    assert str(caught.value).startswith(error.format(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "w.hcl"
    with pytest.raises(SettingsError, match="no such file or directory"):
        load([str(path)])
    path.write_bytes(b"\xff")
    with pytest.raises(SettingsError, match="not UTF-8"):
        load([str(path)])
    path.write_bytes(b" " * (4 * 1024 * 1024 + 1))
    with pytest.raises(SettingsError, match="larger than"):
        load([str(path)])


def test_printing_needs_no_handler(tmp_path: Path) -> None:
    path = tmp_path / "w.hcl"
    path.write_text('watches { type = "key", key = "a" }')
    (plan,) = load([str(path)], handlers=False)
    assert (plan.argv, plan.http) == ((), None)
