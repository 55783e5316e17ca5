"""Who a caller is, and the gateway's own secrets."""
