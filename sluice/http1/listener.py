"""Listening sockets of one application, the sweep of its connections, and the drain.

Traps handled here:
- a stale socket file of a dead process is replaced, a live one is not;
- the sweep is the only timer: four times a second for all connections together, and it renders
  the date header;
- a drain closes idle connections at once, lets calls end, and after the grace cuts the rest: a
  stuck call must not hold the process for ever.
"""

import asyncio
import contextlib
import errno
import logging
import socket
import stat
import time
from pathlib import Path
from typing import Final

from sluice.http1.connection import ServerConnection
from sluice.http1.exchange import Application
from sluice.http1.head_cache import HeadCache
from sluice.http1.limits import Limits
from sluice.http1.wire import DATE

log = logging.getLogger(__name__)

SWEEP_INTERVAL: Final = 0.25
BACKLOG: Final = 4096
DEFAULT_LIMITS: Final = Limits()


class Server:
    """Serves one application on any number of sockets."""

    def __init__(self, application: Application, limits: Limits = DEFAULT_LIMITS) -> None:
        self._application, self._limits = application, limits
        self.connections: set[ServerConnection] = set()
        self._servers: list[asyncio.Server] = []
        self._paths: list[Path] = []
        self._head_cache = HeadCache()
        self._timer: asyncio.TimerHandle | None = None

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on a TCP port; returns it, chosen by the kernel when `port` is 0.

        Raises OSError, also when the port is taken.
        """
        server = await asyncio.get_running_loop().create_server(
            self._protocol, host, port, backlog=BACKLOG
        )
        self._add(server)
        return int(server.sockets[0].getsockname()[1])

    async def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket at `path`, mode 0600. Raises OSError when one listens there."""
        await self.listen_socket(_bind_unix(path))
        self._paths.append(path)

    async def listen_fd(self, fd: int) -> None:
        """Listen on an inherited socket, bound already; the descriptor is ours from now on."""
        await self.listen_socket(socket.socket(fileno=fd))

    async def listen_socket(self, listener: socket.socket) -> None:
        """Listen on a socket that is bound already and belongs to the server from now on."""
        listener.setblocking(False)
        loop = asyncio.get_running_loop()
        if listener.family == socket.AF_UNIX:
            server = await loop.create_unix_server(self._protocol, sock=listener, backlog=BACKLOG)
        else:
            server = await loop.create_server(self._protocol, sock=listener, backlog=BACKLOG)
        self._add(server)

    def stop_listening(self) -> None:
        """Take no new connection; those there are stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path in self._paths:
            path.unlink(missing_ok=True)
        self._paths.clear()

    async def close(self, grace: float) -> int:
        """Take no new connection, finish what has begun, cut what is left after `grace` seconds.

        Returns how many connections were cut.
        """
        self.stop_listening()
        for connection in list(self.connections):
            connection.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self._wait_closed()
        left = list(self.connections)
        for connection in left:
            connection.abort()
        await self._wait_closed()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return len(left)

    def _protocol(self) -> ServerConnection:
        return ServerConnection(self._application, self._limits, self.connections, self._head_cache)

    def _add(self, server: asyncio.Server) -> None:
        self._servers.append(server)
        if self._timer is None:
            self._sweep()

    async def _wait_closed(self) -> None:
        while self.connections:
            await next(iter(self.connections)).wait_closed()

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(SWEEP_INTERVAL, self._sweep)
        DATE.refresh(time.time())
        now = loop.time()
        for connection in list(self.connections):
            try:
                connection.sweep(now)
            except Exception:
                log.exception("sweep of a connection failed")
                connection.abort()


def _bind_unix(path: Path) -> socket.socket:
    """A socket bound to `path`, mode 0600, in place of a dead one. Raises OSError."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o600)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove a socket file nobody listens on. Raises OSError when one does, or it is no socket."""
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise OSError(errno.EEXIST, "exists and is no socket", str(path))
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
            return
    raise OSError(errno.EADDRINUSE, "another process listens here", str(path))
