"""Training: the only place that knows skorch."""
