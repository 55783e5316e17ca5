"""Connections to replicas: what is kept, for how long, and what is never left behind."""

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.proxy.connection_pool import Upstream
from gateway.types.function import UnixAddress
from sluice.http1.client import ClientConnection
from tests.fakes import FakeReplica, echo


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
async def upstream() -> AsyncIterator[Upstream]:
    upstream = Upstream(connect_seconds=60.0, idle_connections=2, idle_seconds=30.0)
    yield upstream
    await upstream.close()


async def connection(upstream: Upstream, replica: FakeReplica) -> ClientConnection:
    user = User()
    upstream.connect(replica.address, user)
    return await user.result


async def closed(replica: FakeReplica, left: int) -> None:
    async with asyncio.timeout(60):
        while len(replica._tasks) > left:  # noqa: ASYNC110 - the fake tells nobody
            await asyncio.sleep(0.002)


async def test_connection_given_back_is_taken_again_newest_first(
    upstream: Upstream, replica: FakeReplica
) -> None:
    first, second = [await connection(upstream, replica) for _ in range(2)]
    upstream.give_back("r", replica.address, first)
    upstream.give_back("r", replica.address, second)
    assert [upstream.take("r") for _ in range(3)] == [second, first, None]
    first.abort()
    second.abort()


async def test_connection_over_the_bound_is_closed(
    upstream: Upstream, replica: FakeReplica
) -> None:
    for each in [await connection(upstream, replica) for _ in range(4)]:
        upstream.give_back("r", replica.address, each)
    assert upstream.idle("r") == 2
    await closed(replica, 2)


async def test_connection_the_replica_closed_is_not_given_out(
    upstream: Upstream, replica: FakeReplica
) -> None:
    upstream.give_back("r", replica.address, await connection(upstream, replica))
    await asyncio.sleep(0.01)
    replica.close_connections()
    await closed(replica, 0)
    await asyncio.sleep(0.01)
    assert upstream.take("r") is None


async def test_connection_idle_for_too_long_is_closed(
    upstream: Upstream, replica: FakeReplica
) -> None:
    kept = await connection(upstream, replica)
    upstream.give_back("r", replica.address, kept)
    upstream.sweep(kept.idle_since + 29)
    assert upstream.idle("r") == 1
    upstream.sweep(kept.idle_since + 31)
    assert upstream.idle("r") == 0
    await closed(replica, 0)


async def test_connections_of_a_retired_replica_are_closed(
    upstream: Upstream, replica: FakeReplica
) -> None:
    upstream.give_back("r", replica.address, await connection(upstream, replica))
    upstream.retire("r")
    upstream.retire("unknown")
    assert upstream.take("r") is None
    await closed(replica, 0)


async def test_connect_to_nobody_fails(upstream: Upstream, tmp_path: Path) -> None:
    user = User()
    upstream.connect(UnixAddress(str(tmp_path / "none.sock")), user)
    with pytest.raises(FileNotFoundError):
        await user.result


async def test_abandoned_connect_tells_nobody_and_leaves_nothing(
    upstream: Upstream, replica: FakeReplica
) -> None:
    user = User()
    upstream.connect(replica.address, user)
    upstream.abandon(user)
    upstream.abandon(user)
    await asyncio.sleep(0.05)
    assert not user.result.done()
    await closed(replica, 0)
    assert not upstream._tasks


async def test_close_ends_what_is_kept_and_what_is_being_connected(replica: FakeReplica) -> None:
    upstream = Upstream(connect_seconds=60.0, idle_connections=2, idle_seconds=30.0)
    upstream.give_back("r", replica.address, await connection(upstream, replica))
    user = User()
    upstream.connect(replica.address, user)
    await upstream.close()
    assert not user.result.done()
    await closed(replica, 0)


async def test_connect_waits_for_room_in_a_full_backlog(upstream: Upstream, tmp_path: Path) -> None:
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        users = [User() for _ in range(4)]
        for user in users:
            upstream.connect(UnixAddress(str(path)), user)
        await users[0].result
        await asyncio.sleep(0.02)
        assert not all(user.result.done() for user in users)
        accepted = [listener.accept()[0]]
        for _ in users[1:]:
            accepted.append(await asyncio.to_thread(lambda: listener.accept()[0]))
        for user in users:
            (await user.result).abort()
        for each in accepted:
            each.close()


async def test_connect_to_a_backlog_that_stays_full_fails_in_time(tmp_path: Path) -> None:
    upstream = Upstream(connect_seconds=0.3, idle_connections=2, idle_seconds=30.0)
    path = tmp_path / "full.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(0)
        users = [User() for _ in range(4)]
        for user in users:
            upstream.connect(UnixAddress(str(path)), user)
        results = await asyncio.gather(*(user.result for user in users), return_exceptions=True)
        assert any(isinstance(each, TimeoutError) for each in results)
        for each in results:
            if isinstance(each, ClientConnection):
                each.abort()
    await upstream.close()
