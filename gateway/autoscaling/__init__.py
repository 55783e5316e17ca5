"""How many replicas a function has: samples of its load, Knative's KPA, and who sets the count."""
