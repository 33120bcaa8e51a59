"""The rules of a view, without I/O: what to ask next, and what an answer means.

* An index below 1 counts as 1; one lower than the last means that the state
  went back (a restore): the answer is dropped and asked again from 0.
* An unchanged index, or an equal payload under a new one, is no change.
* A list that was not empty and now is, or a stale answer that is too old, is
  asked again with ``consistent`` before it is believed: servers just elected
  may answer emptily.
* Fast loops are held to ``rate`` questions a second; errors back off
  exponentially with jitter, forget the index and keep the data.

Source: Consul documentation "Blocking Queries"; consul-template's behaviour.
"""

from __future__ import annotations

import enum
import math
import random
from collections.abc import Callable
from typing import Any

import msgspec

from .responses import Freshness


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How views ask; times in seconds."""

    wait: float = 60.0
    """How long the agent may hold a question; a dead peer shows after it."""
    margin: float = 10.0
    """Added to the agent's own jitter (wait/16) before a read times out."""
    stale: bool = True
    """Let any server answer, unless the answer is older than ``max_stale``."""
    max_stale: float = 2.0
    """Infinite: take any answer, also from a server that knows no leader."""
    rate: float = 10.0
    """Questions a second a view may ask in the long run."""
    burst: int = 5
    """Questions it may ask at once before ``rate`` holds it back."""
    backoff_base: float = 0.25
    backoff_cap: float = 60.0
    refused_delay: float = 10.0
    """Pause after an error that asking again will hardly heal, such as 403."""
    poll_interval: float = 10.0
    """Pause of views that cannot block: no index, or no connection left."""
    guarded_interval: float = 300.0
    """The same while sentinels tell of changes (``sentinel_core.py``)."""
    confirm_empty: bool = True


class Mode(enum.Enum):
    """Which server may answer."""

    DEFAULT = ""
    STALE = "stale"
    CONSISTENT = "consistent"


class Ask(msgspec.Struct, frozen=True):
    """The next question; ``index`` 0 is answered at once."""

    index: int
    delay: float
    """Seconds to let pass first."""
    timeout: float
    """Seconds after which the connection is taken for dead."""
    wait: float
    mode: Mode

    def params(self) -> list[tuple[str, str]]:
        """Return the request parameters that say this."""
        params = [(self.mode.value, "")] if self.mode is not Mode.DEFAULT else []
        if self.index > 0:
            params += [("index", str(self.index)), ("wait", f"{self.wait:g}s")]
        return params


class Verdict(enum.Enum):
    """What an answer means."""

    CHANGED = enum.auto()
    SAME = enum.auto()
    DISTRUSTED = enum.auto()
    """Dropped; the next question goes to the leader."""


class ViewCore:
    """The rules of one view; ``now`` is monotonic time in seconds.

    ``ask`` and one of ``answered`` or ``failed`` alternate.
    """

    __slots__ = (
        "_again",
        "_asked",
        "_digest",
        "_failures",
        "_mode",
        "_not_before",
        "_random",
        "_refilled_at",
        "_tokens",
        "blocking",
        "data",
        "index",
        "monotonic",
        "ready",
        "rules",
    )

    def __init__(
        self,
        rules: Rules,
        rng: random.Random,
        *,
        blocking: bool = True,
        monotonic: bool = True,
    ) -> None:
        self.rules = rules
        self.blocking = blocking
        self.monotonic = monotonic
        self.index = 0
        """The index to block on; 0 while there is none."""
        self.data: Any = None
        self.ready = False
        """Whether an answer was believed yet."""
        self._random = rng
        self._digest = b""
        self._failures = 0
        self._tokens = float(rules.burst)
        self._refilled_at = 0.0
        self._not_before = 0.0
        self._asked: Ask | None = None
        self._mode_reset()

    @property
    def is_unsettled(self) -> bool:
        """Whether the last answer was no good: there is more to ask at once."""
        return not self.ready or self._again or self._failures > 0

    def doubt(self) -> None:
        """Ask the leader next: it knows at least what others have told of."""
        self._mode = Mode.DEFAULT

    def ask(
        self, now: float, *, may_block: bool = True, is_urgent: bool = False
    ) -> Ask:
        """Return the next question; without ``may_block`` one answered at once.

        ``is_urgent`` ones need no pause between polls.
        """
        may_block = may_block and self.blocking
        index = self.index if may_block else 0
        held = max(self._not_before - now, 0.0)
        is_calm = self.ready and not (self._again or self._failures)
        if is_calm and not (may_block or is_urgent):
            held = self.rules.poll_interval * self._random.uniform(0.9, 1.1)
        delay = held + self._take_token(now + held)
        wait = self.rules.wait if index else 0.0
        timeout = wait + wait / 16 + self.rules.margin
        mode = self._mode
        self._asked = Ask(index, delay, timeout, wait, mode)
        return self._asked

    def answered(
        self,
        freshness: Freshness,
        digest: bytes,
        decoded: Callable[[], Any],
    ) -> Verdict:
        """Judge an answer; ``decoded`` is called only if its bytes are new."""
        asked = self._asked
        assert asked is not None, "an answer without a question"
        self._asked = None
        self._not_before = 0.0
        index = max(freshness.index, 1)
        if self._too_old(freshness, asked.mode):
            return self._distrust(Mode.DEFAULT)
        if self.monotonic and self.blocking and index < self.index:
            self._failures = 0
            return self._distrust(Mode.DEFAULT)
        indexed = self.blocking and freshness.index >= 1
        # What cannot be waited for may have the same index for ever (observed:
        # prepared queries).
        if self.ready and indexed and index == self.index:
            return self._settle(index)
        if self.ready and digest == self._digest:
            return self._settle(index)
        data = decoded()
        if (
            self.rules.confirm_empty
            and asked.mode is not Mode.CONSISTENT
            and self.ready
            and self.data
            and not data
        ):
            return self._distrust(Mode.CONSISTENT)
        self._digest = digest
        changed = not self.ready or data != self.data
        self.ready = True
        self.data = data
        self._settle(index)
        return Verdict.CHANGED if changed else Verdict.SAME

    def failed(
        self,
        now: float,
        *,
        retryable: bool = True,
        retry_after: float | None = None,
    ) -> float:
        """Note an error; return the seconds until the next question.

        The index is forgotten, as the agent may have lost its state; the data
        is kept.
        """
        self._asked = None
        self._failures += 1
        self.index = 0
        self._again = False
        rules = self.rules
        # 2**n overflows a float for n of a thousand; the cap is reached long before.
        exponent = min(self._failures - 1, 32)
        delay = min(rules.backoff_base * 2**exponent, rules.backoff_cap)
        if not retryable:
            delay = max(delay, rules.refused_delay)
        delay *= self._random.uniform(0.5, 1.0)
        if retry_after is not None:
            delay = max(delay, min(retry_after, rules.backoff_cap))
        self._not_before = now + delay
        self._mode_reset()
        return delay

    def unanswered(self) -> None:
        """Note that a question was turned away; nothing is wrong with the data."""
        self._asked = None

    def _too_old(self, freshness: Freshness, mode: Mode) -> bool:
        if mode is not Mode.STALE or self.rules.max_stale == math.inf:
            return False
        return (
            not freshness.known_leader or freshness.last_contact > self.rules.max_stale
        )

    def _distrust(self, mode: Mode) -> Verdict:
        self.index = 0
        self._mode = mode
        self._again = True
        return Verdict.DISTRUSTED

    def _settle(self, index: int) -> Verdict:
        self._failures = 0
        if self.blocking:
            self.index = index
        self._mode_reset()
        return Verdict.SAME

    def _mode_reset(self) -> None:
        self._mode = Mode.STALE if self.rules.stale else Mode.DEFAULT
        self._again = False

    def _take_token(self, now: float) -> float:
        """Return how long after ``now`` the rate allows a question."""
        rules = self.rules
        passed = max(now - self._refilled_at, 0.0)
        self._refilled_at = max(now, self._refilled_at)
        self._tokens = min(self._tokens + passed * rules.rate, float(rules.burst))
        self._tokens -= 1.0
        return max(-self._tokens / rules.rate, 0.0)
