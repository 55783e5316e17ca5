"""The way of a call: a route, a slot, a connection to a replica, the answer back; below ASGI."""
