"""When a reload keeps the views, and what of options is read before the flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pyconsul_template.brain import same_for
from pyconsul_template.cli import reaps
from pyconsul_template.config import settle

BLOCK = {"contents": "{{ key('a') }}", "destination": "out"}


def settings(**keys: Any) -> Any:
    return settle({"template": [BLOCK], **keys}, environ={})


def test_templates_and_commands_do_not_change_how_consul_is_asked() -> None:
    other = {"contents": "x", "destination": "y", "command": "true"}
    assert same_for(settings()) == same_for(settings(template=[other]))
    assert same_for(settings()) == same_for(settings(log_level="debug", wait="1s"))


@pytest.mark.parametrize(
    "keys",
    [
        {"consul": {"address": "127.0.0.1:8501"}},
        {"consul": {"token": "t"}},
        {"consul": {"auth": {"username": "u"}}},
        {"consul": {"transport": {"max_conns_per_host": 20}}},
        {"consul": {"retry": {"backoff": "1s"}}},
        {"consul": {"ssl": {"enabled": True}}},
        {"max_stale": "0s"},
        {"block_query_wait": "10s"},
        {"deduplicate": {"enabled": True}},
        {"once": True},
    ],
)
def test_another_way_of_asking_is_another(keys: dict[str, Any]) -> None:
    assert same_for(settings()) != same_for(settings(**keys))


def test_a_new_certificate_is_another_way(tmp_path: Path) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("one")
    keys = {"consul": {"ssl": {"ca_cert": str(path)}}}
    before = same_for(settings(**keys))
    assert same_for(settings(**keys)) == before
    path.write_text("another")
    assert same_for(settings(**keys)) != before


@pytest.mark.parametrize(
    ("argv", "is_first", "expected"),
    [
        ([], False, False),
        ([], True, True),
        (["-reap"], False, True),
        (["--reap=true"], False, True),
        (["-reap=false"], True, False),
        (["-reap=0", "-once"], True, False),
        (["-exec", "reap"], False, False),
    ],
)
def test_who_reaps(argv: list[str], is_first: bool, expected: bool) -> None:
    assert reaps(argv, is_first=is_first) is expected
