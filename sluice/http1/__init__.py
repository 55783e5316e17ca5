"""One HTTP/1.1 server for gateway and runtime, and one client connection, below ASGI."""
