"""Typed calls by noun."""
