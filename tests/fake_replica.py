"""A replica in the test's own process: a real socket, an HTTP/1.1 server, a scripted answer.

It is written on asyncio streams and shares no code with http1, so that both sides of a test do
not err in the same way.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

from gateway.types.function import Address, ReplicaState, TcpAddress, UnixAddress


@dataclass(slots=True)
class ReplicaCall:
    """A request that reached a replica. `body` is read when asked for."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    replica: "FakeReplica"
    whole: bool = field(default=False)
    keep: bool = field(default=True)

    def header(self, name: str) -> str | None:
        """The first value of a header, by its lower-case name."""
        return next((value for key, value in self.headers if key == name), None)

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    async def body(self) -> bytes:
        """The whole request body, whichever way it is framed."""
        self.whole = True
        if self.header("transfer-encoding") == "chunked":
            pieces = []
            while piece := await self.chunk():
                pieces.append(piece)
            return b"".join(pieces)
        return await self.reader.readexactly(int(self.header("content-length") or "0"))

    async def chunk(self) -> bytes:
        """The next chunk of a chunked body; empty at its end."""
        self.whole = True
        size = int((await self.reader.readline()).split(b";")[0], 16)
        data = await self.reader.readexactly(size)
        await self.reader.readexactly(2)
        return data

    async def reply(self, status: int = 200, body: bytes = b"", **headers: str) -> None:
        """Answer with a length. Names: `_` stands for `-`."""
        lines = [f"HTTP/1.1 {status} Fine", f"content-length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        head = "\r\n".join(lines) + "\r\n\r\n"
        await self.send(head.encode("latin-1") + (b"" if self.method == "HEAD" else body))

    async def send(self, data: bytes) -> None:
        """Write bytes as they are; returns when the peer has taken enough of them."""
        self.writer.write(data)
        await self.writer.drain()

    async def gone(self) -> bool:
        """Waits until the peer has closed the connection; only once the body was read."""
        return await self.reader.read() == b""

    def cut(self) -> None:
        """Break the connection off."""
        self.keep = False
        self.writer.transport.abort()


Behaviour = Callable[[ReplicaCall], Awaitable[None]]


async def echo(call: ReplicaCall) -> None:
    """Answers with the request body and its content type."""
    kind = call.header("content-type") or "application/octet-stream"
    await call.reply(200, await call.body(), content_type=kind)


class FakeReplica:
    """One running copy of a function.

    calls: the requests so far; inflight, peak: how many at once; connections: how many were made.
    """

    def __init__(self, name: str, behaviour: Behaviour, socket: Path | None) -> None:
        self.name = name
        self.behaviour = behaviour
        self.state = ReplicaState.STARTING
        self.reason = ""
        self.restarts = 0
        self.calls: list[ReplicaCall] = []
        self.inflight = 0
        self.peak = 0
        self.connections = 0
        self.idle = asyncio.Event()
        self.idle.set()
        self.address: Address = UnixAddress(str(socket)) if socket else TcpAddress("127.0.0.1", 0)
        self._server: asyncio.Server | None = None
        self._tasks: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._readers: dict[asyncio.Task[None], asyncio.StreamReader] = {}
        self._changed = asyncio.Event()

    @property
    def open_connections(self) -> int:
        """Connections that have not ended."""
        return len(self._tasks)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Returns once a call's arrival or a connection's start or end makes the condition true."""
        async with asyncio.timeout(60):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def called(self, count: int = 1) -> None:
        """Returns once `count` calls have arrived."""
        await self.until(lambda: len(self.calls) >= count)

    async def start(self) -> None:
        """Listen; the replica can be called from now on."""
        if isinstance(self.address, UnixAddress):
            self._server = await asyncio.start_unix_server(self._serve, self.address.path)
        else:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
            port = self._server.sockets[0].getsockname()[1]
            self.address = TcpAddress("127.0.0.1", port)

    def refuse(self) -> None:
        """Accept no new connection; those there are stay."""
        if self._server is not None:
            self._server.close()
            self._server = None

    def kill(self) -> None:
        """End as a killed process does: no more connections, those there are break off."""
        self.refuse()
        self.drop_connections()

    def stop_reading(self) -> None:
        """Leave what comes on the present connections in the kernel."""
        for writer in self._tasks.values():
            writer.transport.pause_reading()  # type: ignore[attr-defined] # a socket's transport

    def drop_connections(self) -> None:
        """Break every connection off, in use or kept."""
        for writer in self._tasks.values():
            writer.transport.abort()

    def close_connections(self) -> None:
        """Close every connection in order, as a server does whose idle time is over."""
        for writer in self._tasks.values():
            writer.close()

    async def drain(self) -> None:
        """Accept nothing more and answer what was read, as a process does on SIGTERM."""
        self.refuse()
        while self.inflight or any(reader._buffer for reader in self._readers.values()):  # type: ignore[attr-defined] # its own bytes
            await asyncio.sleep(0)
            await self.idle.wait()

    async def close(self) -> None:
        """End and wait until nothing of it is left."""
        self.kill()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task], self._readers[task] = writer, reader
        self.connections += 1
        self._changed.set()
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._serve_one(reader, writer):
                    pass
        except asyncio.CancelledError:
            # asyncio's stream callback would report it as an error of the server.
            pass
        finally:
            del self._tasks[task], self._readers[task]
            writer.transport.abort()
            self._changed.set()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        call = await self._read_head(reader, writer)
        self.calls.append(call)
        self._changed.set()
        self.inflight += 1
        self.peak = max(self.peak, self.inflight)
        self.idle.clear()
        try:
            await self.behaviour(call)
            if not call.whole and call.keep:
                await call.body()
        finally:
            self.inflight -= 1
            if not self.inflight:
                self.idle.set()
        return call.keep

    async def _read_head(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> ReplicaCall:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        pairs = [line.split(": ", 1) for line in lines]
        headers = [(name.lower(), value) for name, value in pairs]
        return ReplicaCall(method, target, headers, reader, writer, self)
