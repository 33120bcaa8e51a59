"""Metrics: ``registry`` keeps, ``gauges`` asks, ``sinks`` sends, ``telemetry`` runs."""
