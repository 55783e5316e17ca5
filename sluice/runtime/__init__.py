"""Serves one function: loads its handler and runs it for each HTTP call."""
