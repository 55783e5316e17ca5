"""Event sources that call functions through the gateway, as its ordinary clients."""
