"""Dataset uploads: checked, typed and measured by DuckDB in a process of their own.

`ingest` is the registry's side, `worker` the process; the other modules run in the worker.
"""
