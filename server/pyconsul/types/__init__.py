"""Floor 0: records, request and reply messages, durations, errors."""
