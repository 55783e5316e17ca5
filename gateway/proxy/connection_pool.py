"""Connections to replicas: one call at a time on each, kept for later calls, closed in time."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from gateway.types.function import Address, UnixAddress
from sluice.backoff import Backoff
from sluice.http1.client import ClientConnection, connect
from sluice.http1.errors import Http1Error

# What connecting raises when the replica is gone or does not accept the connection in time.
CONNECT_ERRORS: Final = (OSError, TimeoutError, Http1Error)
FIRST_PAUSE: Final = 0.001
LAST_PAUSE: Final = 0.05


class ConnectionUser(Protocol):
    """Waits for a new connection. One of the two is called, unless it abandons the wait."""

    def connected(self, connection: ClientConnection) -> None:
        """The user has the connection until it gives it back or aborts it."""

    def connect_failed(self, error: Exception) -> None:
        """There is no connection. Nothing was sent."""


@dataclass(slots=True)
class _Pool:
    address: Address
    idle: list[ClientConnection] = field(default_factory=list)


class ConnectionPool:
    """Connections by replica.

    connect_seconds: time to connect. idle_connections: how many are kept per replica.
    idle_seconds: for how long; less than the time after which replicas close them, so that no
    call is sent on a connection that is being closed.
    """

    def __init__(self, connect_seconds: float, idle_connections: int, idle_seconds: float) -> None:
        self._connect_seconds = connect_seconds
        self._idle_connections = idle_connections
        self._idle_seconds = idle_seconds
        self._pools: dict[str, _Pool] = {}
        self._connecting: dict[ConnectionUser, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, replica: str) -> ClientConnection | None:
        """A kept connection that is still open; None when there is none."""
        pool = self._pools.get(replica)
        if pool is not None:
            idle = pool.idle
            while idle:
                connection = idle.pop()
                if connection.reusable:
                    return connection
                connection.abort()
        return None

    def connect(self, address: Address, user: ConnectionUser) -> None:
        """Make a new connection for `user`."""
        self._connecting[user] = self._spawn(self._connect(address, user))

    def abandon(self, user: ConnectionUser) -> None:
        """Stop connecting for `user`, which is not called any more."""
        task = self._connecting.pop(user, None)
        if task is not None:
            task.cancel()

    def give_back(self, replica: str, address: Address, connection: ClientConnection) -> None:
        """Keep the connection for the next call on `replica`."""
        pool = self._pools.get(replica)
        if pool is None:
            pool = self._pools[replica] = _Pool(address)
        if len(pool.idle) < self._idle_connections:
            pool.idle.append(connection)
        else:
            connection.abort()

    def retire(self, replica: str) -> None:
        """Close the kept connections to a replica that gets no further calls.

        Calls under way close theirs at their end instead of giving them back.
        """
        pool = self._pools.pop(replica, None)
        if pool is not None:
            for connection in pool.idle:
                connection.abort()

    def sweep(self, now: float) -> None:
        """Close connections that were idle for too long; `now` in the loop's time."""
        oldest = now - self._idle_seconds
        for replica, pool in list(self._pools.items()):
            kept = []
            for connection in pool.idle:
                if connection.reusable and connection.idle_since > oldest:
                    kept.append(connection)
                else:
                    connection.abort()
            pool.idle = kept
            if not kept:
                del self._pools[replica]

    def idle(self, replica: str) -> int:
        """How many connections to a replica are kept."""
        pool = self._pools.get(replica)
        return len(pool.idle) if pool is not None else 0

    async def close(self) -> None:
        """Close every kept connection and cancel those being made."""
        for replica in list(self._pools):
            self.retire(replica)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connect(self, address: Address, user: ConnectionUser) -> None:
        try:
            connection = await self._accepted(address)
        except CONNECT_ERRORS as error:
            if self._connecting.pop(user, None) is not None:
                user.connect_failed(error)
            return
        if self._connecting.pop(user, None) is not None:
            user.connected(connection)
        else:
            connection.abort()

    async def _accepted(self, address: Address) -> ClientConnection:
        """A new connection. Raises what CONNECT_ERRORS names.

        A Unix socket whose backlog is full refuses at once, such as that of a replica which just
        started under a burst of calls. No event announces room, so connecting is repeated, with
        longer pauses.
        """
        backoff = Backoff(FIRST_PAUSE, LAST_PAUSE)
        async with asyncio.timeout(self._connect_seconds):
            while True:
                try:
                    return await connect(_target(address), self._connect_seconds)
                except BlockingIOError:
                    await asyncio.sleep(backoff.next())

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _target(address: Address) -> str | tuple[str, int]:
    if isinstance(address, UnixAddress):
        return address.path
    return (address.host, address.port)
