"""Who holds a TCP port, as far as the system shows it."""

import errno

from gateway.types.errors import SluiceError


class PortTakenError(SluiceError):
    """Another process listens where the gateway was to listen."""


def explain(error: OSError, host: str, port: int, variable: str) -> SluiceError:
    """The error to show an operator whose gateway cannot listen on `host:port`."""
    if error.errno != errno.EADDRINUSE:
        return SluiceError(f"cannot listen on {host}:{port}: {error.strerror or error}")
    owner = port_owner(port) or "another process (its owner cannot be seen)"
    return PortTakenError(
        f"port {port} on {host} is taken by {owner}; stop it or choose another with {variable}"
    )


def port_owner(port: int) -> str | None:
    """`NAME (pid N)` of the process that listens on TCP `port`; None when it cannot be seen."""
    try:
        import psutil  # noqa: PLC0415 - not of the extra `gateway`: a pod's ports are its own
    except ImportError:
        return None
    try:
        found = (
            connection.pid
            for connection in psutil.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        )
        pid = next((pid for pid in found if pid is not None), None)
        return None if pid is None else f"{psutil.Process(pid).name()} (pid {pid})"
    except (psutil.Error, OSError):
        return None  # it has ended meanwhile, or /proc may not be read
