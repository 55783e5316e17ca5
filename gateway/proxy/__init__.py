"""The path of a call, below ASGI: its route, a slot, a connection to a replica, the response."""
