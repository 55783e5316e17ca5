"""Constant-rate load, each latency counted from the moment the call should have been sent.

A closed loop stops sending while the server is slow and so hides its slowness; this one does not.
A call whose turn comes while all connections are busy waits for one, and its wait counts. One
thread, blocking sockets and ppoll(), whose timeout is exact to the microsecond where an event
loop's is to the millisecond.

What is measured shares its processors with the generator, so it is a program in C (openloop.c),
built when it is needed, and how late it sent is told beside the latencies. The same in Python took
half as much again of a processor, and our p99 was a third longer for it. At real-time priority it
sent in time and held the others up instead (predict at 10,000 calls/s, 2 cores: p50 6 ms, not 1).
"""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

SOURCE: Final = Path(__file__).with_suffix(".c")


class ResponseError(Exception):
    """An answer was not a 200 with a length, or there was none."""


@dataclass(frozen=True, slots=True)
class Offered:
    """Seconds. latencies: from the intended moment to the whole answer. lateness: by how much a
    call was sent after its turn had come and a connection was free.
    """

    latencies: list[float]
    lateness: list[float]


class Generator:
    """The generator, built in a folder of its caller's. Needs a C compiler."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._program = folder / "openloop"
        command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-o", str(self._program)]
        subprocess.run([*command, str(SOURCE)], check=True)  # noqa: S603 - our own source

    def offer(
        self, url: str, body: bytes, rate: float, seconds: float, connections: int
    ) -> Offered:
        """What the calls of `seconds` at `rate` calls a second saw.

        Raises AnswerError where one is not answered with 200.
        """
        parts = urlsplit(url)
        request = self._folder / "openloop.request"
        head = (
            f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        request.write_bytes(head.encode() + body)
        place = [str(parts.hostname), str(parts.port or 80), str(request)]
        done = subprocess.run(  # noqa: S603 - built above
            [str(self._program), *place, f"{rate:f}", f"{seconds:f}", str(connections)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ResponseError(done.stderr.strip())
        seen = json.loads(done.stdout)
        return Offered(seen["latencies"], seen["lateness"])
