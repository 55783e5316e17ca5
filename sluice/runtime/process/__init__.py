"""Any program as a handler: one command a call."""
