"""The state store: tables, watch cells, replicated commands, snapshots."""
