"""A gateway of scripted functions on a real socket, and a clock that tests drive."""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from testbed.ports import free_port

USER, PASSWORD = "admin", "of-the-tests"


@dataclass(frozen=True, slots=True)
class Call:
    """A call that reached the gateway. function: NAME or NAME.NAMESPACE as in the path."""

    function: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    asynchronous: bool = False

    @property
    def key(self) -> str:
        return self.headers.get("idempotency-key", "")

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Reply = tuple[int, Any]
Function = Callable[[Call], Awaitable[Reply]]


async def echo(call: Call) -> Reply:
    return 200, call.json if call.body else None


@dataclass
class FakeGateway:
    """Functions by name; the answer is a status and what becomes JSON (or bytes)."""

    functions: dict[str, Function] = field(default_factory=dict)
    annotations: dict[str, dict[str, str]] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    listings: int = 0
    listing_status: int = 200
    port: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    _server: asyncio.Server | None = None
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Listen, on the port of before where there was one."""
        self.port = self.port or free_port()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)

    async def stop(self) -> None:
        """Go away as a killed process does: every connection is cut."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await asyncio.sleep(0)

    def of(self, function: str) -> list[Call]:
        """Calls of one function, in order."""
        return [call for call in self.calls if call.function.partition(".")[0] == function]

    async def until(self, condition: Callable[[], bool], seconds: float = 60.0) -> None:
        """Return once `condition` holds, looked at after each call and listing."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                await self._response(head, reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _response(
        self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        status, value = await self._route(method, target, headers, body)
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        more = "".join(f"{name}: {text}\r\n" for name, text in self.headers.items())
        start = f"HTTP/1.1 {status} Fine\r\ncontent-length: {len(content)}\r\n{more}\r\n"
        writer.write(start.encode() + content)
        await writer.drain()

    async def _route(self, method: str, target: str, headers: dict[str, str], body: bytes) -> Reply:
        try:
            if target.startswith("/system/"):
                self.listings += 1
                return self._listing(target)
            kind, _, rest = target.partition("function/")
            function, slash, path = rest.partition("/")
            call = Call(function, method, slash + path, headers, body, kind == "/async-")
            self.calls.append(call)
        finally:
            self._changed.set()
        scripted = self.functions.get(function.partition(".")[0])
        if scripted is None:
            return 404, b"error finding function\n"
        return await scripted(call)

    def _listing(self, target: str) -> Reply:
        if self.listing_status != 200:
            return self.listing_status, b"no"
        if target.startswith("/system/namespaces"):
            return 200, ["openfaas-fn"]
        return 200, [
            {
                "name": name,
                "namespace": "openfaas-fn",
                "annotations": self.annotations.get(name, {}),
                "labels": {},
                "replicas": 1,
                "availableReplicas": 1,
            }
            for name in self.functions
        ]


class FakeClock:
    """Time that stands until a test moves it."""

    def __init__(self, now: float) -> None:
        self.now = now
        self.waited: list[float] = []
        self._waiters: dict[asyncio.Future[None], float] = {}
        self._waits = asyncio.Condition()
        self._count = 0

    def time(self) -> float:
        return self.now

    async def wait(self, seconds: float, event: asyncio.Event | None = None) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters[future] = self.now + seconds
        self.waited.append(seconds)
        async with self._waits:
            self._count += 1
            self._waits.notify_all()
        waits: set[asyncio.Future[Any]] = {future}
        if event is not None:
            waits.add(asyncio.ensure_future(event.wait()))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._waiters.pop(future, None)
            for one in waits:
                one.cancel()

    async def waits(self, count: int) -> None:
        """Return once `wait` was called so many times in all."""
        async with asyncio.timeout(60), self._waits:
            await self._waits.wait_for(lambda: self._count >= count)

    async def advance(self, seconds: float) -> None:
        """Move the time, wake who is due, and return once one of them waits again."""
        before = self._count
        self.push(seconds)
        await self.waits(before + 1)

    def push(self, seconds: float) -> None:
        """Move the time and wake who is due."""
        self.now += seconds
        for future, until in list(self._waiters.items()):
            if until <= self.now and not future.done():
                future.set_result(None)
