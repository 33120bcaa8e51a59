"""What is news, and what differs; words kept apart; tables."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pyconsul_watch.command import falls_apart
from pyconsul_watch.diff import difference
from pyconsul_watch.news import IDS_MAX, News
from pyconsul_watch.output import render
from pyconsul_watch.shape import shape


def event(number: int) -> dict[str, Any]:
    return {"ID": f"00000000-0000-0000-0000-{number:012}", "Name": f"e{number}"}


def names(call: Any) -> list[str]:
    return [one["Name"] for one in json.loads(call.text)]


def instance(node: str, id: str, index: int = 1) -> dict[str, Any]:
    service = {"ID": id, "Service": "web", "Port": 80, "ModifyIndex": index}
    checks = [{"Node": node, "CheckID": "c", "Status": "warning"}]
    return {
        "Node": {"Node": node, "Address": "a"},
        "Service": service,
        "Checks": checks,
    }


@pytest.mark.parametrize(
    ("words", "apart"),
    [
        (["a; b $X"], False),
        (["sh", "h.sh"], False),
        (["echo", "$X", ">>", "log"], False),
        (["sh", "-c", "'cat; exit 3'"], False),
        (["sh", "-c", "'cat;", "exit", "3'"], False),
        (["sh", "-c", "cat; exit 3"], True),
        (["printf", "[%s]", "a b"], True),
        (["printf", ""], True),
        (["echo", "it's"], True),
    ],
)
def test_words_that_a_shell_would_tear(words: list[str], apart: bool) -> None:
    assert falls_apart(words) is apart


def test_what_differs_is_named() -> None:
    old = shape("service", [instance("n1", "a"), instance("n2", "a", 1)])
    new = shape("service", [instance("n2", "a", 2), instance("n3", "a")])
    found = difference("service", old, new)
    assert found is not None
    assert (found.event, found.old, found.new) == ("changed", old, new)
    assert (found.added, found.changed, found.removed) == (["n3/a"], ["n2/a"], ["n1/a"])
    assert difference("service", new, [*reversed(new)]) is None
    assert difference("key", None, None) is None


@pytest.mark.parametrize(
    ("type", "data", "name"),
    [
        ("key", [{"Key": "k"}], "k"),
        ("keyprefix", [{"Key": "k"}], "k"),
        ("services", {"web": []}, "web"),
        ("nodes", [{"Node": "n"}], "n"),
        ("checks", [{"Node": "n", "CheckID": "c"}], "n/c"),
        ("query", {"Nodes": [instance("n", "i")]}, "n/i"),
        ("event", [event(1)], event(1)["ID"]),
    ],
)
def test_everything_has_a_name(type: str, data: Any, name: str) -> None:
    shaped = shape(type, data)
    made, gone = difference(type, None, shaped), difference(type, shaped, None)
    assert made is not None
    assert gone is not None
    assert (made.event, made.added, made.removed) == ("added", [name], [])
    assert (gone.event, gone.added, gone.removed) == ("removed", [], [name])


def test_the_order_of_a_query_is_no_news_and_its_index_never_falls() -> None:
    news = News("query")
    one, two = instance("n1", "a", 4), instance("n2", "b", 9)
    first = news.judge(1, {"Service": "web", "Nodes": [two, one]})
    assert first is not None
    assert first.index == 9
    assert news.judge(1, {"Service": "web", "Nodes": [one, two]}) is None
    third = news.judge(1, {"Service": "web", "Nodes": [one]})
    assert third is not None
    assert third.index == 9


def test_an_event_is_told_once_whatever_list_it_comes_in() -> None:
    news = News("event")
    assert names(news.judge(1, [])) == []
    first = news.judge(2, [event(1)])
    assert names(first) == ["e1"]
    # Another agent has them in another order, and may lack some.
    assert names(news.judge(3, [event(2), event(1)])) == ["e2"]
    assert news.judge(4, [event(1)]) is None
    assert names(news.judge(5, [event(3), event(2)])) == ["e3"]


def test_the_first_list_after_a_restart_is_what_came_since() -> None:
    news = News("event", skip_first=True, seen=[event(1)["ID"]])
    assert news.judge(1, [event(1)]) is None
    call = news.judge(2, [event(1), event(2)])
    assert names(call) == ["e2"]
    assert news.take_finished() is None
    assert call is not None
    news.done(call)
    assert news.take_finished() == [event(2)["ID"]]
    news.pass_over([event(2), event(4)])
    assert news.judge(3, [event(4)]) is None


def test_ids_of_events_do_not_pile_up() -> None:
    news = News("event")
    for number in range(IDS_MAX + 1):
        assert news.judge(1, [event(number)]) is not None
    assert names(news.judge(1, [event(0)])) == ["e0"]
    assert news.judge(1, [event(IDS_MAX)]) is None


def test_a_call_that_was_broken_off_gives_its_events_to_the_next() -> None:
    news = News("event")
    before, after = news.judge(1, [event(1)]), news.judge(2, [event(1), event(2)])
    assert before is not None
    assert after is not None
    joined = news.join(before, after)
    assert (names(joined), joined.index, joined.first) == (["e1", "e2"], 2, True)


def test_a_table_cannot_steer_a_terminal() -> None:
    pairs = [
        {"Key": "\x1b[2J", "Value": "G1s=", "Flags": 0},
        {"Key": "bin", "Value": "/w==", "Flags": 0},
        {"Key": "long", "Value": "QUFB" * 60, "Flags": 0},
    ]
    text = render("keyprefix", shape("keyprefix", pairs), "table")
    assert text.splitlines()[1].startswith("\\x1b[2J")
    assert text.splitlines()[1].endswith("\\x1b[")
    assert text.splitlines()[2].endswith("(1 bytes)")
    assert text.splitlines()[3].endswith("A" * 77 + "...")
    assert all(line.isprintable() for line in text.splitlines())
