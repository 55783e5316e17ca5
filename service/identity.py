"""Who the caller is: the gateway authenticates every request and says so in one header."""

from collections.abc import Sequence
from typing import Final

IDENTITIES: Final = {b"admin", b"function"}
# Open to everybody who can connect to the socket, without the gateway.
OPEN_PATHS: Final = frozenset({"/healthz", "/metrics"})
UNAUTHENTICATED: Final = "expected a request through the gateway, which says who asks"


def identity_in(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """`admin` or `function`, as the gateway says; None without the header or with two of them."""
    found = [value for name, value in headers if name == b"x-sluice-identity"]
    return found[0].decode() if len(found) == 1 and found[0] in IDENTITIES else None
