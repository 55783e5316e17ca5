"""Builds images of contexts for any provider: every step up to the lock, then a target."""
