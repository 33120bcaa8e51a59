"""Times by Go's layouts, as Go itself prints them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from pyconsul_template.ctmpl.gotime import formatted, parsed

MOMENT = datetime(2023, 11, 4, 22, 3, 9, 123400, UTC)
EAST = MOMENT.replace(tzinfo=timezone(timedelta(hours=5, minutes=45, seconds=7)))


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        ("Mon Jan _2 15:04:05 2006", "Sat Nov  4 22:03:09 2023"),
        ("Monday, 02-Jan-06 3:4:5 pm", "Saturday, 04-Nov-23 10:3:9 pm"),
        # A word goes on with small letters: it is none
        ("Month Mondo Janus January Jan1", "Month Mondo Janus November Nov11"),
        # The day of the year, and a year behind a line
        ("002 __2 _2 _2006", "308 308  4 _2023"),
        ("05.000 05.999 05,9999999 .0000", "09.123 09.123 09,1234 .1234"),
        (".0001 .9", ".0011 .1"),
        ("-07:00:00 -070000 Z07:00:00 Z070000", "+00:00:00 +000000 Z Z"),
        ("-07:00 -0700 -07 Z07:00 Z0700 Z07 MST", "+00:00 +0000 +00 Z Z Z UTC"),
    ],
)
def test_layouts(layout: str, text: str) -> None:
    assert formatted(MOMENT, layout) == text


def test_offsets_may_have_seconds() -> None:
    assert formatted(EAST, "-07:00:00 -070000 Z07:00") == "+05:45:07 +054507 +05:45"
    text = formatted(EAST, "2006-01-02 15:04:05 -07:00:00")
    found = parsed("2006-01-02 15:04:05 -07:00:00", text)
    assert found == EAST.replace(microsecond=0)
    assert parsed("2006 __2", "2023  45").month == 2
