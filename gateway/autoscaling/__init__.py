"""How many replicas a function has: what is measured, what Knative's KPA asks for, who sets it."""
