"""The HTTP API: parse a request, call the store, render. docs/registry.md lists the routes."""
