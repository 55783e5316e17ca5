"""What the REST API has beyond OpenFaaS's."""
