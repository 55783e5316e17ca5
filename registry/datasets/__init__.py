"""Dataset uploads: checked, typed and measured by DuckDB in a separate process.

`ingest` runs in the registry; `worker` is the process, and the other modules run in it.
"""
