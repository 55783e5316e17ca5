"""Logs of functions: from a replica's pipe to its file and to those who follow."""

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Final

from gateway.providers.embedded.log_files import (
    LONGEST_LINE,
    SUFFIX,
    LogWriter,
    open_logs,
    prune_logs,
    read_logs,
)
from gateway.settings import GatewaySettings
from gateway.types.function import LogLine, LogQuery
from gateway.types.ids import FunctionId

LOG: Final = logging.getLogger(__name__)
CHUNK: Final = 64 << 10
PIPE_CHUNKS: Final = 16  # a pipe holds 1 MiB at most
READ_AHEAD: Final = 500  # lines a thread reads for the loop at once
ROUTINE: Final = b" level=info logger=runtime "  # what every replica says
FOLLOW_QUEUE: Final = 10_000


class Follower:
    """Lines that came since it began; the newest are dropped, and counted, when it is slow."""

    def __init__(self, query: LogQuery) -> None:
        self._query = query
        self._lines: asyncio.Queue[LogLine] = asyncio.Queue(FOLLOW_QUEUE)
        self._dropped = 0

    def offer(self, line: LogLine) -> None:
        if self._query.instance and line.instance != self._query.instance:
            return
        if self._lines.full():
            self._dropped += 1
            return
        self._lines.put_nowait(line)

    async def next(self) -> LogLine:
        """The next line, or one that tells how many are missing before it."""
        if self._dropped and self._lines.empty():
            dropped, self._dropped = self._dropped, 0
            text = f"{dropped} log lines were left out: the reader is too slow"
            return LogLine(self._query.id, self._query.instance, datetime.now(UTC), text)
        return await self._lines.get()


class Logs:
    """The log files of one data folder and who follows them."""

    def __init__(self, root: Path, settings: GatewaySettings) -> None:
        self._root, self._settings = root, settings
        self._followers: dict[FunctionId, set[Follower]] = {}

    def collect(self, function: FunctionId, replica: str, pipe: int) -> "Collector":
        """Read `pipe`, which it takes over, to its end into the replica's file."""
        path = self._folder(function) / f"{replica}{SUFFIX}"
        writer = LogWriter(path, self._settings.log_file_bytes, self._settings.log_files)

        def tell(at: datetime, text: bytes) -> None:
            followers = self._followers.get(function, ())
            if followers:
                line = LogLine(function, replica, at, text.decode("utf-8", "replace"))
                for follower in followers:
                    follower.offer(line)

        return Collector(pipe, writer, tell)

    async def read(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The lines that `query` asks for; with `follow`, those to come as well, without end."""
        with self._following(query) as follower:
            # No await until here: a line is either in the files as they are now or followed.
            lines = read_logs(open_logs(self._folder(query.id), query), query)
            while batch := await asyncio.to_thread(lambda: list(islice(lines, READ_AHEAD))):
                for line in batch:
                    yield line
            while query.follow:
                yield await follower.next()

    async def prune(self, in_use: frozenset[str]) -> int:
        """Remove what is too old or too much of ended replicas; returns the bytes freed."""
        oldest = time.time() - self._settings.log_keep
        return await asyncio.to_thread(
            prune_logs, self._root, in_use, oldest, self._settings.log_bytes
        )

    @contextmanager
    def _following(self, query: LogQuery) -> Iterator[Follower]:
        follower = Follower(query)
        if query.follow:
            self._followers.setdefault(query.id, set()).add(follower)
        try:
            yield follower
        finally:
            if query.follow:
                self._followers[query.id].discard(follower)
                if not self._followers[query.id]:
                    del self._followers[query.id]

    def _folder(self, function: FunctionId) -> Path:
        return self._root / function.namespace / function.name


class Collector:
    """Splits what a replica writes into lines; one that is too long is cut into several."""

    def __init__(
        self, pipe: int, writer: LogWriter, tell: Callable[[datetime, bytes], None]
    ) -> None:
        self._pipe, self._writer, self._tell = pipe, writer, tell
        self._rest = b""
        # The last one of the replica's own that holds anything.
        self.last_line = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe, False)
        self._loop.add_reader(pipe, self._readable)

    def note(self, text: str) -> None:
        """Write a line of the provider's own."""
        self._keep([text.encode()])

    def take(self) -> None:
        """Take what is in the pipe."""
        for _ in range(PIPE_CHUNKS):
            if self._pipe < 0 or not self._readable():
                break

    def close(self) -> None:
        """Take what is left in the pipe, which nobody writes to any more, and close the file."""
        self.take()
        if self._pipe >= 0:
            self._end()

    def _readable(self) -> bool:
        """Whether something was read."""
        try:
            data = os.read(self._pipe, CHUNK)
        except BlockingIOError:
            return False
        if not data:
            self._end()
            return False
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._note_last(lines)
        while len(self._rest) > LONGEST_LINE:
            lines.append(self._rest[:LONGEST_LINE])
            self._rest = self._rest[LONGEST_LINE:]
        self._keep(lines)
        return True

    def _note_last(self, lines: list[bytes]) -> None:
        own = (line for line in reversed(lines) if line.strip() and ROUTINE not in line)
        self.last_line = next(own, self.last_line)

    def _keep(self, lines: list[bytes]) -> None:
        now = datetime.now(UTC)
        pieces = [(now, piece) for line in lines for piece in _pieces(line.rstrip(b"\r"))]
        if not pieces:
            return
        try:
            self._writer.write(pieces)
        except OSError as error:
            # A full disk must not stop the function, which would wait for its pipe to be read.
            LOG.warning("log lines lost: count=%d error=%s", len(pieces), error.strerror)
        for at, piece in pieces:
            self._tell(at, piece)

    def _end(self) -> None:
        if self._rest:
            self._note_last([self._rest])
            self._keep([self._rest])
        self._rest = b""
        self._loop.remove_reader(self._pipe)
        os.close(self._pipe)
        self._pipe = -1
        self._writer.close()


def _pieces(line: bytes) -> list[bytes]:
    if len(line) <= LONGEST_LINE:
        return [line]
    return [line[start : start + LONGEST_LINE] for start in range(0, len(line), LONGEST_LINE)]
