"""Connections to replicas: what is kept, for how long, and what is never left behind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy.connection_pool import ConnectionPool
from gateway.types.function import UnixAddress
from sluice.http1.client import Address, ClientConnection, connect
from tests.fakes import FakeReplica, echo
from tests.gateway.proxy.running import until


class User:
    """Waits for one connection."""

    def __init__(self) -> None:
        self.result: asyncio.Future[ClientConnection] = asyncio.get_running_loop().create_future()

    def connected(self, connection: ClientConnection) -> None:
        self.result.set_result(connection)

    def connect_failed(self, error: Exception) -> None:
        self.result.set_exception(error)


@pytest.fixture
async def replica(tmp_path: Path) -> AsyncIterator[FakeReplica]:
    replica = FakeReplica("r", echo, tmp_path / "r.sock")
    await replica.start()
    yield replica
    await replica.close()


@pytest.fixture
async def connection_pool() -> AsyncIterator[ConnectionPool]:
    connection_pool = ConnectionPool(connect_seconds=60.0, idle_connections=2, idle_seconds=30.0)
    yield connection_pool
    await connection_pool.close()


async def connection(connection_pool: ConnectionPool, replica: FakeReplica) -> ClientConnection:
    user = User()
    connection_pool.connect(replica.address, user)
    return await user.result


async def closed(replica: FakeReplica, left: int) -> None:
    await replica.until(lambda: replica.open_connections <= left)


async def test_connection_given_back_is_taken_again_newest_first(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    first, second = [await connection(connection_pool, replica) for _ in range(2)]
    connection_pool.give_back("r", replica.address, first)
    connection_pool.give_back("r", replica.address, second)
    assert [connection_pool.take("r") for _ in range(3)] == [second, first, None]
    first.abort()
    second.abort()


async def test_connection_over_the_bound_is_closed(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    for each in [await connection(connection_pool, replica) for _ in range(4)]:
        connection_pool.give_back("r", replica.address, each)
    assert connection_pool.idle("r") == 2
    await closed(replica, 2)


async def test_connection_the_replica_closed_is_not_given_out(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    kept = await connection(connection_pool, replica)
    connection_pool.give_back("r", replica.address, kept)
    await replica.until(lambda: replica.open_connections == 1)
    replica.close_connections()
    await until(lambda: not kept.reusable)
    assert connection_pool.idle("r") == 1
    assert connection_pool.take("r") is None


async def test_connection_idle_for_too_long_is_closed(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    kept = await connection(connection_pool, replica)
    connection_pool.give_back("r", replica.address, kept)
    connection_pool.sweep(kept.idle_since + 29)
    assert connection_pool.idle("r") == 1
    connection_pool.sweep(kept.idle_since + 31)
    assert connection_pool.idle("r") == 0
    await closed(replica, 0)


async def test_connections_of_a_retired_replica_are_closed(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    connection_pool.give_back("r", replica.address, await connection(connection_pool, replica))
    connection_pool.retire("r")
    connection_pool.retire("unknown")
    assert connection_pool.take("r") is None
    await closed(replica, 0)


async def test_connect_to_nobody_fails(connection_pool: ConnectionPool, tmp_path: Path) -> None:
    user = User()
    connection_pool.connect(UnixAddress(str(tmp_path / "none.sock")), user)
    with pytest.raises(FileNotFoundError):
        await user.result


async def test_abandoned_connect_tells_nobody_and_leaves_nothing(
    connection_pool: ConnectionPool, replica: FakeReplica
) -> None:
    user = User()
    others = asyncio.all_tasks()
    connection_pool.connect(replica.address, user)
    connecting = asyncio.all_tasks() - others
    connection_pool.abandon(user)
    connection_pool.abandon(user)
    _, left = await asyncio.wait(connecting, timeout=60)
    assert not left
    assert not user.result.done()
    await closed(replica, 0)


async def test_close_ends_what_is_kept_and_what_is_being_connected(replica: FakeReplica) -> None:
    connection_pool = ConnectionPool(connect_seconds=60.0, idle_connections=2, idle_seconds=30.0)
    connection_pool.give_back("r", replica.address, await connection(connection_pool, replica))
    user = User()
    connection_pool.connect(replica.address, user)
    await connection_pool.close()
    assert not user.result.done()
    await closed(replica, 0)


async def test_connect_waits_for_room_in_a_full_backlog(
    connection_pool: ConnectionPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0

    async def counting(address: Address, timeout: float) -> ClientConnection:  # noqa: ASYNC109 - the original's name
        nonlocal refused
        try:
            return await connect(address, timeout)
        except BlockingIOError:
            refused += 1
            raise

    monkeypatch.setattr("gateway.proxy.connection_pool.connect", counting)
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        users = [User() for _ in range(4)]
        for user in users:
            connection_pool.connect(UnixAddress(str(path)), user)
        await users[0].result
        await until(lambda: refused >= len(users))
        assert not all(user.result.done() for user in users)
        accepted = [listener.accept()[0]]
        for _ in users[1:]:
            accepted.append(await asyncio.to_thread(lambda: listener.accept()[0]))
        for user in users:
            (await user.result).abort()
        for each in accepted:
            each.close()


async def test_connect_to_a_backlog_that_stays_full_fails_in_time(tmp_path: Path) -> None:
    connection_pool = ConnectionPool(connect_seconds=0.3, idle_connections=2, idle_seconds=30.0)
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        users = [User() for _ in range(4)]
        for user in users:
            connection_pool.connect(UnixAddress(str(path)), user)
        results = await asyncio.gather(*(user.result for user in users), return_exceptions=True)
        assert any(isinstance(each, TimeoutError) for each in results)
        for each in results:
            if isinstance(each, ClientConnection):
                each.abort()
    await connection_pool.close()
