"""Ports for programs that a test starts: nobody else's, now and until the tests' process ends.

A port of the kernel's choice (0) is free again between its choice and the program's own bind, and
any connection or test beside this one may take it. These lie below the kernel's range, and each is
given to one process of tests at a time: the abstract socket of its name says so.
"""

import errno
import socket
from pathlib import Path
from typing import Final

LOWEST: Final = 20_000
RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_claims: list[socket.socket] = []
_next = LOWEST


def free_ports(count: int) -> list[int]:
    """TCP ports that nothing listens on and that no other test is given."""
    return [free_port() for _ in range(count)]


def free_port() -> int:
    """As `free_ports`, one of them."""
    global _next
    end = max(int(RANGE.read_text().split()[0]), LOWEST + 10_000)
    while _next < end:
        port, _next = _next, _next + 1
        if _claim(port) and _unused(port):
            return port
    raise AssertionError(f"no port from {LOWEST} to {end} is left")


def _claim(port: int) -> bool:
    """Whether the port is this process's from now on."""
    claim = socket.socket(socket.AF_UNIX)
    try:
        claim.bind(f"\0sluice-test-port-{port}")
    except OSError as error:
        claim.close()
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    _claims.append(claim)
    return True


def _unused(port: int) -> bool:
    try:
        socket.create_server(("0.0.0.0", port)).close()
    except OSError:
        return False
    return True
