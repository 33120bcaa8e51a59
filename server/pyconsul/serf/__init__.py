"""Serf, pure: members, events and queries on top of ``gossip`` (section 8)."""
