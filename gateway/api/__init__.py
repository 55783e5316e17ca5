"""The REST API: each route parses a request, calls one object and renders the response."""
