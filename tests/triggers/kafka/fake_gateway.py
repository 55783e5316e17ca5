"""A gateway on a real socket: lists functions, answers their calls as a test says, keeps both."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sluice.http1.exchange import Exchange
from sluice.http1.limits import Limits
from sluice.http1.listener import Server
from sluice.http1.wire import header_lines
from testbed.ports import free_port


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a function. at: loop time of its arrival."""

    function: str
    headers: Mapping[str, str]
    body: bytes
    asynchronous: bool
    at: float

    @property
    def offset(self) -> int:
        return int(self.headers["x-kafka-offset"])

    @property
    def partition(self) -> int:
        return int(self.headers["x-kafka-partition"])

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


# As the gateway refuses what no replica took.
NOT_TAKEN = Reply(503, b"no replica", {"x-openfaas-internal": "proxy"})
Answering = Callable[[Call], Reply | Awaitable[Reply]]


class FakeGateway:
    """answer: what functions do. calls: in the order of arrival."""

    def __init__(self) -> None:
        self.functions: list[dict[str, Any]] = []
        self.calls: list[Call] = []
        self.signals: list[dict[str, Any]] = []
        self.knows_signals = True
        self.response: Answering = lambda call: Reply(200, call.body)
        self.port = free_port()
        self._changed = asyncio.Event()
        self._server: Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        self._server = Server(self._accept, Limits(body_bytes=64 * 1024 * 1024))
        self.port = await self._server.listen_tcp("127.0.0.1", self.port)

    async def stop(self) -> None:
        """Cut every connection and let go of the port."""
        if self._server is not None:
            await self._server.close(0)
            self._server = None
        for task in self._tasks:
            task.cancel()

    def deploy(self, name: str, topics: str, **options: object) -> None:
        """List a function; options: com.sluice.kafka.* with underscores."""
        annotations = {
            f"com.sluice.kafka.{key.replace('_', '-')}": str(value)
            for key, value in options.items()
        }
        self.remove(name)
        self.functions.append(
            {"name": name, "namespace": "fn", "annotations": {"topic": topics, **annotations}}
        )

    def remove(self, name: str) -> None:
        self.functions = [one for one in self.functions if one["name"] != name]

    async def until(self, enough: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait for calls or signals that make `enough` true."""
        async with asyncio.timeout(seconds):
            while not enough():
                self._changed.clear()
                await self._changed.wait()

    def of(self, function: str) -> list[Call]:
        return [call for call in self.calls if call.function == function]

    def _accept(self, exchange: Exchange) -> "_Receiver":
        return _Receiver(self, exchange)

    def received(self, exchange: Exchange, body: bytes) -> None:
        kind, _, function = exchange.path.decode().lstrip("/").partition("/")
        if kind == "system":
            exchange.respond(*self._system(function, body))
            self._changed.set()
            return
        headers = {name.decode(): value.decode() for name, value in exchange.headers}
        at = asyncio.get_running_loop().time()
        call = Call(function.rstrip("/"), headers, body, kind == "async-function", at)
        self.calls.append(call)
        self._changed.set()
        response = self.response(call)
        if isinstance(response, Reply):
            _send(exchange, response)
        else:
            task = asyncio.ensure_future(_send_later(exchange, response))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _system(self, path: str, body: bytes) -> tuple[int, bytes, bytes]:
        kind = b"content-type: application/json\r\n"
        if path == "namespaces":
            return 200, kind, b'["fn"]'
        if path == "functions":
            return 200, kind, json.dumps(self.functions).encode()
        if path == "signals" and self.knows_signals:
            self.signals += json.loads(body)["signals"]
            return 200, kind, b"{}"
        return 404, b"", b"404 page not found\n"


class _Receiver:
    def __init__(self, gateway: FakeGateway, exchange: Exchange) -> None:
        self._gateway, self._exchange, self._body = gateway, exchange, b""

    def body_received(self, data: bytes) -> None:
        self._body += data

    def body_complete(self) -> None:
        self._gateway.received(self._exchange, self._body)

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


async def _send_later(exchange: Exchange, response: Awaitable[Reply]) -> None:
    _send(exchange, await response)


def _send(exchange: Exchange, reply: Reply) -> None:
    lines = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    exchange.respond(reply.status, header_lines(lines), reply.body)
