"""Constant-rate load, each latency counted from the moment the call should have been sent.

`python -m bench.openloop URL BODYFILE RATE SECONDS CONNECTIONS` prints one JSON object. A closed
loop stops sending while the server is slow and so hides its slowness; this one does not. A call
whose turn comes while all connections are busy waits for one, and its wait counts. One thread,
blocking sockets and select(), whose timeout is exact to the microsecond where an event loop's is
to the millisecond.

What is measured shares its processors with this generator, so how late it sent is told beside the
latencies. Tried, on 2 cores: at real-time priority it sent in time and held the others up instead
(predict at 10,000 calls/s: p50 6 ms, not 1); one in C took a third less of a processor, and p99
fell by a quarter for us and not at all for nginx, whose tail is no shorter than ours.
"""

import json
import select
import socket
import sys
import time
from collections import deque
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from bench.rows import quantile

HEAD_END: Final = b"\r\n\r\n"
LENGTH: Final = b"content-length: "


class AnswerError(Exception):
    """An answer was not a 200 with a length."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Seconds. latencies: from the intended moment to the whole answer. lateness: by how much a
    call was sent after its turn had come and a connection was free.
    """

    latencies: list[float] = field(default_factory=list)
    lateness: list[float] = field(default_factory=list)


def offered(url: str, body: bytes, rate: float, seconds: float, connections: int) -> Offered:
    """What the calls of `seconds` at `rate` calls a second saw.

    Raises AnswerError where one is not answered with 200.
    """
    parts = urlsplit(url)
    head = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    request = head.encode() + body
    place = (str(parts.hostname), int(parts.port or 80))
    with ExitStack() as opened:
        made = [opened.enter_context(_connect(place)) for _ in range(connections)]
        return _send(request, made, rate, int(rate * seconds))


def _send(request: bytes, connections: list[socket.socket], rate: float, total: int) -> Offered:
    """`total` calls, each sent when its turn comes and a connection is free."""
    begun, sent = time.perf_counter(), 0
    idle = deque((connection, begun) for connection in connections)
    busy: dict[socket.socket, float] = {}
    seen = Offered()
    while len(seen.latencies) < total:
        now = time.perf_counter()
        while sent < total and idle and (due := begun + sent / rate) <= now:
            connection, free = idle.popleft()
            seen.lateness.append(time.perf_counter() - max(due, free))
            connection.sendall(request)
            busy[connection] = due
            sent += 1
        due = begun + sent / rate if sent < total and idle else now + 1.0
        readable, _, _ = select.select(busy, [], [], max(0.0, due - time.perf_counter()))
        for connection in readable:
            _read(connection)
            answered = time.perf_counter()
            seen.latencies.append(answered - busy.pop(connection))
            idle.append((connection, answered))
    return seen


def _connect(place: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(place, timeout=30)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _read(connection: socket.socket) -> None:
    """Read one whole answer."""
    data = connection.recv(65536)
    while HEAD_END not in data:
        data += _more(connection)
    head, _, rest = data.partition(HEAD_END)
    if not head.startswith(b"HTTP/1.1 200"):
        raise AnswerError(data[:200].decode(errors="replace"))
    _, found, length = head.lower().partition(LENGTH)
    if not found:
        raise AnswerError(f"no length: {head!r}")
    missing = int(length.partition(b"\r\n")[0]) - len(rest)
    while missing > 0:
        missing -= len(_more(connection))


def _more(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise AnswerError("the connection was closed")
    return data


def main(arguments: list[str]) -> None:
    url, body, rate, seconds, connections = arguments
    call = Path(body).read_bytes()
    seen = offered(url, call, float(rate), float(seconds), int(connections))
    told = {
        "calls": len(seen.latencies),
        "p50": quantile(seen.latencies, 0.5),
        "p99": quantile(seen.latencies, 0.99),
        "late": quantile(seen.lateness, 0.99),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
