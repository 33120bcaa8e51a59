"""Any text is read or refused with a configuration's own error."""

from __future__ import annotations

import contextlib
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from pyconsul.config import json_text
from pyconsul.config.sockaddr import Interface, evaluate
from pyconsul.config.sources import parse_text
from pyconsul.types.errors import ConfigError

HOST = [Interface(name="eth0", address="10.0.0.7", prefix=24, default=True)]
WORDS = st.sampled_from(
    [
        *("GetAllInterfaces", "GetPrivateIP", "include", "attr", "join", "math"),
        *("sort", "limit", "|", "(", ")", '"address"', '"name"', '"+1"', "3", "`x"),
    ]
)
PIECES = st.sampled_from(
    [*'{}[]=",:\n#', "a", "service", "ports", "http", "<<X\n", "1", "true", "${", "\\u"]
)


@settings(max_examples=200, deadline=None)
@given(st.lists(WORDS, max_size=8))
def test_templates(words: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        assert isinstance(evaluate("{{ " + " ".join(words) + " }}", lambda: HOST), str)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_files(text: str) -> None:
    for kind in ("hcl", "json"):
        with contextlib.suppress(ConfigError):
            assert isinstance(parse_text(text, kind, "f"), dict)


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.text(), st.lists(PIECES).map("".join)))
def test_what_is_no_json_has_an_explanation(text: str) -> None:
    try:
        json.loads(text, parse_constant=_refuse)
    except ValueError:
        assert json_text.explain(text)
    else:
        assert json_text.explain(text) == ""


def _refuse(word: str) -> None:
    raise ValueError(word)
