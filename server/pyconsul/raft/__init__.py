"""Raft, sans-IO: messages and a clock in, a ``Ready`` out."""
