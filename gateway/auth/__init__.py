"""Identifies callers, and keeps the gateway's own secrets."""
