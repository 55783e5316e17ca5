"""Routes that Sluice adds to OpenFaaS's API."""
