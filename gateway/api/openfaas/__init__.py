"""OpenFaaS's REST API."""
