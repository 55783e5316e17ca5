"""The caller's identity, which the gateway sends in a header after authentication."""

from collections.abc import Sequence
from typing import Final

IDENTITIES: Final = {b"admin", b"function"}
# Open to every process that can connect to the socket, without authentication.
OPEN_PATHS: Final = frozenset({"/healthz", "/metrics"})
UNAUTHENTICATED: Final = "expected a request through the gateway, which says who asks"


def identity_in(headers: Sequence[tuple[bytes, bytes]]) -> str | None:
    """`admin` or `function` from the gateway's header; None when it is missing or duplicated."""
    found = [value for name, value in headers if name == b"x-sluice-identity"]
    return found[0].decode() if len(found) == 1 and found[0] in IDENTITIES else None
