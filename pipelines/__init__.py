"""Pipelines: durable runs of directed acyclic graphs of function calls."""
