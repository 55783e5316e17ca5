"""What a server takes from a client before it refuses."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one connection. Sizes in bytes, times in seconds.

    head_bytes: request line and headers together, more is 431. head_fields: header lines, likewise.
    header_timeout: from the first byte of a head to its end. idle_timeout: between requests.
    body_bytes: more is 413; None leaves it to the application. stall_timeout: no byte of a body
    arrives, or none of a response is taken, for so long. linger_timeout: how long the rest of a
    refused request is discarded so that the client sees the response and not a reset.
    """

    head_bytes: int = 64 * 1024
    head_fields: int = 100
    header_timeout: float = 10.0
    idle_timeout: float = 75.0
    body_bytes: int | None = None
    stall_timeout: float = 60.0
    linger_timeout: float = 5.0
