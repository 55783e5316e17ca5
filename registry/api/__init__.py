"""The HTTP API: parse, call one store function, render. docs/registry.md lists the routes."""
