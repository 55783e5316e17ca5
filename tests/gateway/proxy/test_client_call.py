"""Bodies and responses that are passed on while they are read, with either side slow or gone."""

import asyncio
import hashlib
import os
import resource
import socket
from pathlib import Path

import pytest

from gateway.metrics import CLIENT_GONE
from gateway.proxy.call import CallPhase
from gateway.types.function import UnixAddress
from gateway.types.ids import FunctionId
from tests.fake_replica import FakeReplica
from tests.fakes import ReplicaCall, deployment
from tests.gateway.proxy.running import Client, Gateway, running, standstill, until

F = FunctionId("f")
MIB = 2**20


async def digest(call: ReplicaCall) -> None:
    """Responds with the length and the hash of the body, which it reads piece by piece."""
    total, sha = 0, hashlib.sha256()
    if call.header("transfer-encoding") == "chunked":
        while piece := await call.chunk():
            total += len(piece)
            sha.update(piece)
    else:
        call.whole = True
        left = int(call.header("content-length") or "0")
        while left:
            piece = await call.reader.read(min(left, 65536))
            left -= len(piece)
            total += len(piece)
            sha.update(piece)
    await call.reply(200, f"{total} {sha.hexdigest()}".encode())


class Sender:
    """Sends a body as fast as it is taken. sent: bytes so far."""

    def __init__(self, client: Client, body: bytes) -> None:
        self.client, self.body, self.sent = client, body, 0
        self.task = asyncio.create_task(self._send())

    async def _send(self) -> None:
        while self.sent < len(self.body):
            self.client.send(self.body[self.sent : self.sent + 65536])
            await self.client.writer.drain()
            self.sent += 65536


async def deployed(gateway: Gateway) -> None:
    await gateway.provider.deploy(deployment("f"))
    await gateway.provider.ready("f")


def resident() -> int:
    """Bytes of memory this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


async def test_large_body_arrives_whole_with_its_length(tmp_path: Path) -> None:
    body = os.urandom(5 * MIB)
    async with running(tmp_path, digest) as gateway:
        await deployed(gateway)
        reply = await gateway.call("POST", "/function/f", body)
        assert reply.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        call = gateway.provider.replicas("f")[0].calls[0]
        assert call.values("content-length") == [str(len(body))]
        assert call.values("transfer-encoding") == []
        await gateway.settled()


async def test_chunked_body_arrives_whole_and_chunked(tmp_path: Path) -> None:
    pieces = [os.urandom(size) for size in (1, 10, 70_000, 3)]
    arrived: asyncio.Queue[int] = asyncio.Queue()

    async def chunks(call: ReplicaCall) -> None:
        body = b""
        while piece := await call.chunk():
            body += piece
            arrived.put_nowait(len(piece))
        await call.reply(200, f"{len(body)} {hashlib.sha256(body).hexdigest()}".encode())

    async with running(tmp_path, chunks) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", transfer_encoding="chunked")
        for piece in pieces:
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            left = len(piece)
            while left:  # the next is sent once this one has arrived
                left -= await asyncio.wait_for(arrived.get(), 60)
        client.send(b"0\r\ntrailer: dropped\r\n\r\n")
        body = b"".join(pieces)
        reply = await client.reply()
        assert reply.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        call = gateway.provider.replicas("f")[0].calls[0]
        assert (call.values("transfer-encoding"), call.values("content-length")) == (
            ["chunked"],
            [],
        )
        gateway.provider.replicas("f")[0].behaviour = digest
        client.request("POST", "/function/f", b"again")
        assert (await client.reply()).status == 200


async def test_connection_of_a_large_call_is_kept_for_the_next(tmp_path: Path) -> None:
    async with running(tmp_path, digest) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        for _ in range(2):
            client.request("POST", "/function/f", b"l" * 200_000)
            assert (await client.reply()).status == 200
        client.request("POST", "/function/f", b"small")
        assert (await client.reply()).status == 200
        assert gateway.provider.replicas("f")[0].connections == 2


async def test_event_stream_is_not_held_back(tmp_path: Path) -> None:
    step = asyncio.Semaphore(0)

    async def events(call: ReplicaCall) -> None:
        await call.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            await step.acquire()
            await call.send(b"9\r\ndata: %d\n\n\r\n" % number)
        await call.send(b"0\r\n\r\n")

    async with running(tmp_path, events) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("GET", "/function/f", accept="text/event-stream")
        head = await client.head()
        assert head.header("content-type") == "text/event-stream"
        for number in range(3):
            step.release()
            assert await client.chunk() == b"data: %d\n\n" % number
        assert await client.chunk() == b""
        await gateway.settled()


async def test_chunks_that_a_replica_sends_at_once_reach_the_client_as_one(tmp_path: Path) -> None:
    async def items(call: ReplicaCall) -> None:
        chunks = b"".join(b"4\r\n%04d\r\n" % number for number in range(16))
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        await call.send(head + chunks + b"0\r\n\r\n")

    async with running(tmp_path, items) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        for _ in range(2):
            client.request("GET", "/function/f")
            assert (await client.head()).header("transfer-encoding") == "chunked"
            assert await client.chunk() == b"".join(b"%04d" % number for number in range(16))
            assert await client.chunk() == b""
        await gateway.settled()


async def test_answer_without_a_length_ends_with_the_replicas_connection(tmp_path: Path) -> None:
    async def old(call: ReplicaCall) -> None:
        await call.body()
        call.keep = False
        await call.send(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\nuntil the end")
        call.writer.close()
        await call.writer.wait_closed()

    async with running(tmp_path, old) as gateway:
        await deployed(gateway)
        reply = await gateway.call("GET", "/function/f")
        assert (reply.status, reply.body, reply.clean) == (200, b"until the end", True)
        assert reply.header("transfer-encoding") == "chunked"


async def test_stalled_reader_of_a_large_answer_keeps_memory_flat(tmp_path: Path) -> None:
    size = 100 * MIB
    block = b"b" * 65536
    sent = 0

    async def large(call: ReplicaCall) -> None:
        nonlocal sent
        await call.body()
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            await call.send(block)
            sent += len(block)

    async with running(tmp_path, large) as gateway:
        await deployed(gateway)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port, limit=65536)
        before = resident()
        writer.write(b"GET /function/f HTTP/1.1\r\nhost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await standstill(lambda: sent)
        assert sent < size
        assert resident() - before < 16 * MIB
        left = size
        while left:
            left -= len(await reader.read(MIB))
        assert resident() - before < 16 * MIB
        writer.close()
        await gateway.settled()


async def test_stalled_replica_of_a_large_body_stops_its_sender(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(call: ReplicaCall) -> None:
        await gate.wait()
        await digest(call)

    body = b"s" * (64 * MIB)
    async with running(tmp_path, slow) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        before = resident()
        client.request("POST", "/function/f", content_length=str(len(body)))
        sender = Sender(client, body)
        await standstill(lambda: sender.sent)
        assert sender.sent < 16 * MIB
        assert resident() - before < 24 * MIB
        gate.set()
        reply = await client.reply()
        assert reply.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        await sender.task
        await gateway.settled()


def accept_nothing(replica: FakeReplica) -> socket.socket:
    """A socket in the replica's place that takes connections and never reads from them."""
    assert isinstance(replica.address, UnixAddress)
    replica.refuse()
    Path(replica.address.path).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(replica.address.path)
    listener.listen(8)
    return listener


async def test_large_body_sent_again_to_a_stalled_replica_stops_its_sender(tmp_path: Path) -> None:
    """The first replica drains without having read; what is sent again fills the second at once."""
    gate = asyncio.Event()

    async def slow(call: ReplicaCall) -> None:
        await gate.wait()
        await digest(call)

    body = os.urandom(MIB) * 48
    async with running(tmp_path, slow) as gateway:
        await deployed(gateway)
        (first,) = gateway.provider.replicas("f")
        listener = accept_nothing(first)
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length=str(len(body)))
        sender = Sender(client, body)
        await standstill(lambda: sender.sent)
        assert 0 < sender.sent < 16 * MIB
        await gateway.provider.scale(F, 2)
        await gateway.provider.ready("f", 2)
        gateway.provider.tell_draining(first)
        listener.close()
        await gateway.provider.replicas("f")[1].called()
        await standstill(lambda: sender.sent)
        assert sender.sent < 16 * MIB
        gate.set()
        reply = await client.reply()
        assert reply.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        await sender.task
        await gateway.settled()


async def test_sender_that_leaves_in_its_body_cancels_the_call(tmp_path: Path) -> None:
    seen = asyncio.Event()
    cut = asyncio.Event()

    async def behaviour(call: ReplicaCall) -> None:
        seen.set()
        try:
            await call.body()
        except asyncio.IncompleteReadError:
            cut.set()
            raise

    async with running(tmp_path, behaviour) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length=str(MIB))
        client.send(b"part")
        await asyncio.wait_for(seen.wait(), 60)
        client.leave()
        await asyncio.wait_for(cut.wait(), 60)
        await gateway.settled()
        codes = gateway.metrics.function("f.openfaas-fn").seconds
        assert list(codes) == [CLIENT_GONE]


async def test_reader_that_leaves_in_its_answer_cancels_the_call(tmp_path: Path) -> None:
    cut = asyncio.Event()

    async def endless(call: ReplicaCall) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            while True:
                await call.send(b"1\r\nx\r\n")
                await asyncio.sleep(0.01)
        except ConnectionError:
            cut.set()
            raise

    async with running(tmp_path, endless) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("GET", "/function/f")
        await client.head()
        client.leave()
        await asyncio.wait_for(cut.wait(), 60)
        await gateway.settled()


async def test_early_answer_to_a_half_sent_body_closes_both_connections(tmp_path: Path) -> None:
    async def refuse(call: ReplicaCall) -> None:
        call.whole = True
        await call.reply(413, b"too much")
        await call.gone()

    async with running(tmp_path, refuse) as gateway:
        await deployed(gateway)
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length=str(10 * MIB))
        client.send(b"p" * 1000)
        reply = await client.reply()
        assert (reply.status, reply.body) == (413, b"too much")
        assert reply.header("connection") == "close"
        replica = gateway.provider.replicas("f")[0]
        await asyncio.wait_for(replica.idle.wait(), 60)
        assert gateway.connection_pool.idle(replica.name) == 0
        await gateway.settled()


async def test_large_call_waits_unread_for_a_slot(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def slow(call: ReplicaCall) -> None:
        await call.body()
        await gate.wait()
        await call.reply(200, b"done")

    async with running(tmp_path, slow) as gateway:
        await gateway.provider.deploy(deployment("f", annotations={"com.sluice.concurrency": "1"}))
        await gateway.provider.ready("f")
        first = asyncio.create_task(gateway.call("POST", "/function/f", b"1"))
        await until(lambda: gateway.inflight() == 1)
        second = asyncio.create_task(gateway.call("POST", "/function/f", b"2" * MIB))
        await until(lambda: gateway.inflight() == 2)
        gate.set()
        assert [each.body for each in await asyncio.gather(first, second)] == [b"done"] * 2
        await gateway.settled()


async def test_large_call_refused_by_a_full_queue_is_told_so(tmp_path: Path) -> None:
    async def stuck(call: ReplicaCall) -> None:
        await call.body()
        await call.gone()

    async with running(tmp_path, stuck, waiting_calls=1) as gateway:
        await gateway.provider.deploy(deployment("f", annotations={"com.sluice.concurrency": "1"}))
        await gateway.provider.ready("f")
        for _ in range(2):
            client = await gateway.connect()
            client.request("POST", "/function/f", b"1")
        await until(lambda: gateway.inflight() == 2)
        client = await gateway.connect()
        client.request("POST", "/function/f", content_length=str(MIB))
        client.send(b"x" * 1000)
        reply = await client.reply()
        assert (reply.status, reply.header("connection")) == (429, "close")


async def test_large_call_to_a_dead_replica_goes_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.proxy.call.REASON_SECONDS", 600.0)  # as long as the test takes
    async with running(tmp_path, digest) as gateway:
        await deployed(gateway)
        replica = gateway.provider.replicas("f")[0]
        gateway.provider.kill(replica, told=False)
        body = os.urandom(MIB)
        call = asyncio.create_task(gateway.call("POST", "/function/f", body))
        await until(lambda: gateway.has_call_in(CallPhase.AWAITING_EXIT))
        gateway.provider.tell_killed(replica, "exit status 1")
        reply = await call
        assert reply.body.decode() == f"{len(body)} {hashlib.sha256(body).hexdigest()}"
        await gateway.settled()


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
async def test_body_around_the_small_limit_arrives_whole(tmp_path: Path, size: int) -> None:
    async with running(tmp_path) as gateway:
        await deployed(gateway)
        reply = await gateway.call("POST", "/function/f", b"e" * size)
        assert reply.body == b"e" * size
