"""HTTP of one replica: limits, health, metrics, status."""
