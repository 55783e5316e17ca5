"""The `sluice` command: runs the platform on one machine and talks to any gateway's REST API."""
