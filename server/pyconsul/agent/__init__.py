"""The agent: local state, checks, anti-entropy, leader duties, lifecycle."""
