"""The call path with everything real but the provider: sockets, http1, activator, connections."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from gateway.auth.authenticator import Identity
from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.call import CallPhase
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.invoker import Invoker
from gateway.proxy.router import Router
from gateway.settings import GatewaySettings
from gateway.types.function import UnixAddress
from gateway.types.ids import FunctionId
from sluice.http1.exchange import Exchange, Receiver
from sluice.http1.limits import Limits
from sluice.http1.server import Server
from tests.fake_replica import Behaviour
from tests.fakes import FakeProvider, echo


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it is so; for states of which the product notifies nobody."""
    async with asyncio.timeout(60):
        while not condition():  # noqa: ASYNC110 - see above
            await asyncio.sleep(0.002)


async def standstill(progress: Callable[[], int]) -> None:
    """Returns once `progress` has not changed for 200 turns of the loop.

    Both ends of every connection are on this loop, and each turn looks at all sockets: bytes that
    nobody holds back have moved by then, however slow the machine is.
    """
    last, turns = progress(), 0
    async with asyncio.timeout(60):
        while turns < 200:
            await asyncio.sleep(0)
            now = progress()
            last, turns = now, turns + 1 if now == last else 0


@dataclass(slots=True)
class Reply:
    """A response as it came over the socket. clean: whether its end was a proper one."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    clean: bool = True

    def header(self, name: str) -> str | None:
        return next((value for key, value in self.headers if key == name), None)

    def names(self) -> list[str]:
        return [name for name, _ in self.headers]


class Client:
    """A raw connection to the gateway."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    def request(self, method: str, target: str, body: bytes = b"", **headers: str) -> None:
        """Send a request; `_` in a header's name stands for `-`."""
        lines = [f"{method} {target} HTTP/1.1", "host: gw.test"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        if body:
            lines.append(f"content-length: {len(body)}")
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def reply(self, *, head: bool = False) -> Reply:
        """The next response; 1xx ones are not skipped."""
        reply = await self.head()
        if head or reply.status in {100, 204, 304}:
            return reply
        length = reply.header("content-length")
        try:
            if length is not None:
                reply.body = await self.reader.readexactly(int(length))
            elif reply.header("transfer-encoding") == "chunked":
                while piece := await self.chunk():
                    reply.body += piece
            else:
                reply.body = await self.reader.read()
        except asyncio.IncompleteReadError as error:
            reply.body += error.partial
            reply.clean = False
        except ConnectionError:
            reply.clean = False
        return reply

    async def head(self) -> Reply:
        """The next response's status and headers."""
        text = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = text[:-4].split("\r\n")
        pairs = [line.split(": ", 1) for line in lines]
        return Reply(int(first.split(" ")[1]), [(name, value) for name, value in pairs])

    async def chunk(self) -> bytes:
        size = int((await self.reader.readuntil(b"\r\n")), 16)
        data = await self.reader.readexactly(size + 2)
        return data[:-2]

    async def closed(self) -> bool:
        """Waits until the gateway has closed the connection; False when it sent something."""
        try:
            return await self.reader.read() == b""
        except ConnectionError:
            return True

    def leave(self) -> None:
        self.writer.transport.abort()


class Someone:
    """An `Identifier` that knows one password."""

    def identify(self, authorization: bytes | None, peer: str = "") -> Identity | None:
        return {b"Basic good": Identity("admin"), b"Bearer token": Identity("function")}.get(
            authorization or b""
        )


class Api:
    """Stands for the ASGI application: responds with target and body of the request."""

    def __init__(self, exchange: Exchange) -> None:
        self.exchange, self.body = exchange, b""

    def body_received(self, data: bytes) -> None:
        self.body += data

    def body_complete(self) -> None:
        text = b"api %b %b" % (self.exchange.target, self.body)
        self.exchange.respond(200, b"", text)

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


def api(exchange: Exchange) -> Receiver:
    return Api(exchange)


@dataclass
class Gateway:
    """A running call path. wakes: the functions that were scaled from zero, in order."""

    provider: FakeProvider
    settings: GatewaySettings
    services: Mapping[str, UnixAddress]
    wakes: list[FunctionId] = field(default_factory=list)

    def __post_init__(self) -> None:
        settings = self.settings
        self.metrics = Metrics()
        self.connection_pool = ConnectionPool(
            settings.connect_timeout, settings.kept_connections, settings.kept_timeout
        )
        listeners = Listeners(self._wake, lambda _function: None, self.connection_pool.retire)
        self.activator = Activator(
            listeners, self.metrics, settings.wait_timeout, settings.waiting_calls
        )
        self.invoker = Invoker(self.activator, self.connection_pool, self.metrics, settings)
        self.router = Router(self.invoker, Someone(), self.services, api, settings)
        self.server = Server(self.router, Limits())
        self.clients: list[Client] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def connect(self) -> Client:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        client = Client(reader, writer)
        self.clients.append(client)
        return client

    async def call(self, method: str, target: str, body: bytes = b"", **headers: str) -> Reply:
        """One request on a connection of its own."""
        client = await self.connect()
        client.request(method, target, body, **headers)
        try:
            return await client.reply(head=method == "HEAD")
        finally:
            client.leave()
            self.clients.remove(client)

    def inflight(self) -> int:
        """Slots taken and calls waiting, over all functions."""
        return sum(each.inflight + each.waiting for each in self.activator.stats(0.0))

    def has_call_in(self, phase: CallPhase) -> bool:
        """Whether a call is in the phase."""
        return any(call.phase is phase for call in self.invoker.calls)

    async def settled(self) -> None:
        """Returns when no call is under way: every slot was given back."""
        await until(lambda: not self.invoker.calls)
        assert self.inflight() == 0

    async def start(self) -> None:
        self.provider.watch(self.activator.apply)
        self.port = await self.server.listen_tcp("127.0.0.1", 0)
        self._sweeper = asyncio.get_running_loop().create_task(self.invoker.run())

    async def stop(self) -> None:
        for client in self.clients:
            client.leave()
        await self.server.close(0)
        self._sweeper.cancel()
        await asyncio.gather(self._sweeper, *self._tasks, return_exceptions=True)
        await self.provider.close()

    def _wake(self, function: FunctionId) -> None:
        self.wakes.append(function)
        task = asyncio.get_running_loop().create_task(self.provider.scale(function, 1))
        self._tasks.add(task)


@contextlib.asynccontextmanager
async def running(
    folder: Path | None,
    behaviour: Behaviour = echo,
    services: Mapping[str, UnixAddress] | None = None,
    **settings: Any,
) -> AsyncIterator[Gateway]:
    """A gateway in front of a FakeProvider; replicas on Unix sockets in `folder`, else on TCP."""
    provider = FakeProvider(folder, behaviour)
    gateway = Gateway(provider, replace(GatewaySettings(), **settings), services or {})
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()
