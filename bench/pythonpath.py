"""The Python of one call alone: bytes in and bytes out over fake transports, no system call.

    python -m bench.pythonpath [--slices 200] [--json]
    python -m bench.pythonpath --against FOLDER [--rounds 10]

What a call costs the gateway and a replica's server, in microseconds: the least of many short
slices, as what disturbs a slice only adds to it. --against measures this tree and another checkout
in turn, each in a process of its own, and prints both medians.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.proxy.connection_pool import ConnectionPool
from gateway.proxy.invoker import Invoker
from gateway.proxy.router import Router
from gateway.settings import GatewaySettings
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from sluice.http1.client import ClientConnection
from sluice.http1.exchange import Exchange
from sluice.http1.head_cache import HeadCache
from sluice.http1.limits import Limits
from sluice.http1.server import ServerConnection

ROOT: Final = Path(__file__).resolve().parent.parent
CALLS: Final = 400
BODY: Final = b"x" * 601
FEW: Final = (b"content-type: application/json", b"accept: */*", b"user-agent: wrk")
MANY: Final = (
    *FEW,
    b"accept-encoding: gzip, deflate, br",
    b"accept-language: en-US,en;q=0.5",
    b"cache-control: no-cache",
    b"origin: http://example.com",
    b"referer: http://example.com/page",
    b"x-tenant: blue",
    b"x-trace: 4bf92f3577b34da6",
    b"cookie: session=0123456789abcdef",
)
RESPONSE_LINES: Final = (b"content-type: application/json", b"x-duration-seconds: 0.000123")


class FakeTransport(asyncio.Transport):
    """Keeps what was written last."""

    sent = b""

    def write(self, data: Any) -> None:
        self.sent = data

    def is_closing(self) -> bool:
        return False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing is ever buffered."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 40000) if name == "peername" else default


class Nobody:
    """There are no services to identify callers for."""

    def identify(self, authorization: bytes | None, peer: str = "") -> None:
        return None


class Echo:
    """Answers with the body."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange, self._body = exchange, b""

    def body_received(self, data: bytes) -> None:
        self._body = self._body + data if self._body else data

    def body_complete(self) -> None:
        self._exchange.respond(200, b"content-type: application/json\r\n", self._body)

    def client_gone(self) -> None: ...

    def writing_paused(self) -> None: ...

    def writing_resumed(self) -> None: ...


def request(headers: tuple[bytes, ...], number: int = 0) -> bytes:
    """A call; each number gives another head of the same length."""
    lines = [b"POST /function/echo HTTP/1.1", b"host: 127.0.0.1:8080", *headers]
    lines += [b"traceparent: %016x" % number] if number else []
    return b"\r\n".join([*lines, b"content-length: %d" % len(BODY), b"", BODY])


def response() -> bytes:
    """What a replica of ours answers."""
    lines = [b"HTTP/1.1 200 OK", *RESPONSE_LINES, b"date: Sun, 22 Nov 2026 06:00:00 GMT"]
    return b"\r\n".join([*lines, b"content-length: %d" % len(BODY), b"", BODY])


class Gateway:
    """The gateway's call path with one replica, 64 kept connections and a client on each of 64."""

    begun = 0

    def __init__(self, requests: list[bytes]) -> None:
        settings, metrics = GatewaySettings(), Metrics()
        connection_pool = ConnectionPool(1.0, 256, settings.kept_timeout)
        listeners = Listeners(lambda _: None, lambda _: None, connection_pool.retire)
        activator = Activator(listeners, metrics, settings.wait_timeout, 100)
        invoker = Invoker(activator, connection_pool, metrics, settings)
        address = UnixAddress("echo.sock")
        replica = Replica("echo-1", address, ReplicaState.READY)
        concurrency = {"com.sluice.concurrency": "100"}
        deployment = FunctionDeployment(FunctionId("echo"), "echo", annotations=concurrency)
        activator.apply(FunctionStatus(deployment, 1, (replica,), datetime.now(UTC)))
        plane = Router(invoker, Nobody(), {}, Echo, settings)
        self.clients = [ServerConnection(plane, Limits(), set(), HeadCache()) for _ in range(64)]
        self.replicas = [ClientConnection() for _ in range(64)]
        for side in (*self.clients, *self.replicas):
            side.connection_made(FakeTransport())
        for connection in self.replicas:
            connection_pool.give_back(replica.id, address, connection)
        self.requests, self.response = requests, response()

    def calls(self, count: int) -> None:
        """Serve `count` calls, one at a time, the clients in turn."""
        clients, requests, reply = self.clients, self.requests, self.response
        replica = self.replicas[-1].data_received  # the pool's last is taken first
        self.begun = (begun := self.begun) + count
        for number in range(begun, begun + count):
            clients[number & 63].data_received(requests[number % len(requests)])
            replica(reply)


class Served:
    """The server of a replica around the smallest application."""

    def __init__(self, requests: list[bytes]) -> None:
        self.server = ServerConnection(Echo, Limits(), set(), HeadCache())
        self.server.connection_made(FakeTransport())
        self.requests = requests

    def calls(self, count: int) -> None:
        """Serve `count` requests."""
        receive, requests = self.server.data_received, self.requests
        for number in range(count):
            receive(requests[number % len(requests)])


def paths() -> Iterator[tuple[str, Callable[[int], None]]]:
    """Name and calls of each path that is measured."""
    few, many = [request(FEW)], [request(MANY)]
    varied = [request(FEW, number) for number in range(1, 6000)]
    yield "gateway, 3 headers", Gateway(few).calls
    yield "gateway, 11 headers", Gateway(many).calls
    yield "gateway, a header that varies", Gateway(varied).calls
    yield "server, 3 headers", Served(few).calls


async def measure(slices: int) -> dict[str, float]:
    """Microseconds of a call by path, each the least of `slices`."""
    least: dict[str, float] = {}
    measured = list(paths())
    for _ in range(slices):
        for name, calls in measured:
            begin = time.perf_counter()
            calls(CALLS)
            taken = (time.perf_counter() - begin) / CALLS * 1e6
            least[name] = min(taken, least.get(name, taken))
    return {name: round(taken, 2) for name, taken in least.items()}


def measured_in(folder: Path, slices: int) -> dict[str, float]:
    """The figures of the checkout in `folder`."""
    done = subprocess.run(  # noqa: S603 - this file
        [sys.executable, __file__, "--json", "--slices", str(slices)],
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(json.loads(done.stdout))


def compare(folders: list[Path], rounds: int, slices: int) -> None:
    """Print the medians of each folder over the rounds."""
    seen = [[measured_in(folder, slices) for folder in folders] for _ in range(rounds)]
    for name in seen[0][0]:
        medians = [statistics.median(turn[at][name] for turn in seen) for at in range(len(folders))]
        text = "  ".join(f"{median:6.2f}" for median in medians)
        sys.stdout.write(f"{name:32} {text}  {medians[0] / medians[-1] - 1:+.1%}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.against:
        compare([ROOT, options.against], options.rounds, options.slices)
        return
    figures = asyncio.run(measure(options.slices))
    sys.stdout.write(json.dumps(figures, indent=None if options.json else 1) + "\n")


if __name__ == "__main__":
    main()
