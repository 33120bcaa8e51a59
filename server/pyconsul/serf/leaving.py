"""The graceful leave: intent, memberlist leave, time to spread (8.4)."""

from __future__ import annotations

from pyconsul.serf import codec
from pyconsul.serf.host import Host
from pyconsul.serf.members import MemberTable
from pyconsul.serf.messages import LeaveIntent
from pyconsul.serf.outputs import LeaveDone


class Leaving:
    """Goes through the steps once; each waits for its success or a time limit.

    The intent must be out before the dead message, or the others would take
    the leave for a failure.
    """

    def __init__(self, host: Host, table: MemberTable) -> None:
        """Stay, for now."""
        self.has_begun = False
        self.is_over = False
        self._host = host
        self._table = table
        self._intent_sent = False
        self._memberlist_left = False

    def begin(self) -> None:
        """Tell the pool that we are about to leave."""
        self.has_begun = True
        self._table.is_staying = False
        host = self._host
        intent = LeaveIntent(ltime=self._table.clock.increment(), node=host.name)
        self._table.leave_intent(intent, host.now)
        if not host.has_alive_peers():
            self._leave_memberlist()
            return
        host.at(host.now + host.settings.broadcast_timeout_s, self._leave_memberlist)
        # Not at once: this is called while memberlist fills a packet.
        host.queue_intent(
            codec.encode(intent), lambda: host.at(host.now, self._leave_memberlist)
        )

    def memberlist_left(self) -> None:
        """Take that memberlist has told its leave, or took too long."""
        if self._memberlist_left or not self._intent_sent:
            return
        self._memberlist_left = True
        host = self._host
        # With nobody left to tell, there is nothing to wait for.
        spreads = host.has_alive_peers()
        delay = host.settings.leave_propagate_delay_s if spreads else 0.0
        host.at(host.now + delay, self._done)

    def _leave_memberlist(self) -> None:
        if self._intent_sent:
            return
        self._intent_sent = True
        host = self._host
        host.at(host.now + host.settings.broadcast_timeout_s, self.memberlist_left)
        host.memberlist.leave(host.now)

    def _done(self) -> None:
        self.is_over = True
        self._host.emit(LeaveDone())
