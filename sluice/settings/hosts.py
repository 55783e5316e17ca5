"""Hosts as settings name them."""

from typing import Final

WILDCARDS: Final = frozenset({"", "0.0.0.0", "::"})


def own_host(host: str) -> str:
    """Where this machine reaches what listens on `host`."""
    return "127.0.0.1" if host in WILDCARDS else host
