"""Agent configuration: files and flags to one typed value."""
