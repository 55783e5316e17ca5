"""One replica that serves: HTTP, limits, health, drain."""
