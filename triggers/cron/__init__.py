"""Calls by schedule."""
