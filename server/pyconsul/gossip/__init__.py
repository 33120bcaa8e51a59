"""memberlist, pure: who lives, told by gossip (``wire-gossip.md`` 1 to 7)."""
