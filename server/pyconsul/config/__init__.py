"""Configuration: flags and files into one frozen ``AgentConfig``."""
