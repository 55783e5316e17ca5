"""Who holds a TCP port, as far as /proc tells."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from gateway.types.errors import SluiceError

PROC: Final = Path("/proc")
LISTENING: Final = "0A"
SOCKET_LINK: Final = re.compile(r"socket:\[(\d+)\]")


class PortTakenError(SluiceError):
    """Another process listens where the gateway was to listen."""


def explain(error: OSError, host: str, port: int, variable: str) -> SluiceError:
    """What to tell an operator whose gateway cannot listen on `host:port`."""
    if error.errno != errno.EADDRINUSE:
        return SluiceError(f"cannot listen on {host}:{port}: {error.strerror or error}")
    owner = port_owner(port) or "another process (its owner cannot be seen)"
    return PortTakenError(
        f"port {port} on {host} is taken by {owner}; stop it or choose another with {variable}"
    )


def port_owner(port: int) -> str | None:
    """`NAME (pid N)` of the process that listens on TCP `port`; None when it cannot be seen."""
    inodes = set(_listening_inodes(port))
    if not inodes:
        return None
    for process in PROC.iterdir():
        if process.name.isdigit() and _holds(process, inodes):
            return f"{_name(process)} (pid {process.name})"
    return None


def _listening_inodes(port: int) -> Iterator[str]:
    for table in ("tcp", "tcp6"):
        try:
            lines = (PROC / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        descriptors = list((process / "fd").iterdir())
    except OSError:
        return False  # it ended meanwhile, or is somebody else's
    return any(_inode(descriptor) in inodes for descriptor in descriptors)


def _inode(descriptor: Path) -> str | None:
    try:
        match = SOCKET_LINK.fullmatch(str(descriptor.readlink()))
    except OSError:
        return None
    return match[1] if match is not None else None


def _name(process: Path) -> str:
    try:
        return (process / "comm").read_text().strip()
    except OSError:
        return "a process"
