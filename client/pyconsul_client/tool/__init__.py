"""What the companion tools share: settings, logs, retries, supervised children.

Light imports only: a tool in front of a short command has a start-up budget.
"""
