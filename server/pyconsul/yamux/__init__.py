"""yamux, pure: many streams on one connection (``wire-rpc.md`` section 3)."""
