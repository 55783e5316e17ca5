"""Event sources that call functions through the gateway; docs/architecture.md says what is planned."""
