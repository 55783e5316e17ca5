"""Logs of functions: from a replica's pipe to its file, to those who follow, and read back.

The files are NAMESPACE/FUNCTION/REPLICA.log, rotated; each line begins with the time it arrived.
"""

import asyncio
import heapq
import logging
import os
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final

from gateway.settings import GatewaySettings
from gateway.types.function import LogLine, LogQuery
from gateway.types.ids import FunctionId

LOG: Final = logging.getLogger(__name__)
CHUNK: Final = 64 << 10
PIPE_CHUNKS: Final = 16  # a pipe holds 1 MiB at most
READ_AHEAD: Final = 500  # lines a thread reads for the loop at once
ROUTINE: Final = b" level=info logger=runtime "  # the runtime's own lines
FOLLOW_QUEUE: Final = 10_000
LONGEST_LINE: Final = 64 << 10
SUFFIX: Final = ".log"
ENDED_REPLICAS: Final = 50  # of each function, whose logs are kept
BLOCK: Final = 64 << 10


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
        """The next line, or one that says how many are missing before it."""
        if self._dropped and self._lines.empty():
            dropped, self._dropped = self._dropped, 0
            text = f"{dropped} log lines were left out: the reader is too slow"
            return LogLine(self._query.id, self._query.instance, datetime.now(UTC), text)
        return await self._lines.get()


class Logs:
    """The log files of one data folder, and their followers."""

    def __init__(self, root: Path, settings: GatewaySettings) -> None:
        self._root, self._settings = root, settings
        self._followers: dict[FunctionId, set[Follower]] = {}

    def collect(self, function: FunctionId, replica: str, pipe: int) -> "Collector":
        """Read `pipe` to its end into the replica's file, and close it."""
        path = self._folder(function) / f"{replica}{SUFFIX}"
        writer = LogWriter(path, self._settings.log_file_bytes, self._settings.log_files)

        def notify(at: datetime, text: bytes) -> None:
            followers = self._followers.get(function, ())
            if followers:
                line = LogLine(function, replica, at, text.decode("utf-8", "replace"))
                for follower in followers:
                    follower.offer(line)

        return Collector(pipe, writer, notify)

    async def read(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """The lines that match `query`; with `follow`, also those to come, without end."""
        with self._following(query) as follower:
            # No await before the files are opened: each line is either in them or followed.
            lines = read_logs(open_logs(self._folder(query.id), query), query)
            while batch := await asyncio.to_thread(lambda: list(islice(lines, READ_AHEAD))):
                for line in batch:
                    yield line
            while query.follow:
                yield await follower.next()

    async def prune(self, in_use: frozenset[str]) -> int:
        """Remove logs of ended replicas that are too old or too many; returns the bytes freed."""
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
    """Splits a replica's output into lines; one that is too long is cut into several."""

    def __init__(
        self, pipe: int, writer: "LogWriter", notify: Callable[[datetime, bytes], None]
    ) -> None:
        self._pipe, self._writer, self._notify = pipe, writer, notify
        self._rest = b""
        # The last line that is neither empty nor the runtime's own.
        self.last_line = b""
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe, False)
        self._loop.add_reader(pipe, self._readable)

    def note(self, text: str) -> None:
        """Add a line of the provider's own."""
        self._keep([text.encode()])

    def take(self) -> None:
        """Read what is in the pipe."""
        for _ in range(PIPE_CHUNKS):
            if self._pipe < 0 or not self._readable():
                break

    def close(self) -> None:
        """Read what is left in the pipe, whose writers have ended, and close the file."""
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
            # A full disk must not block the function, which waits when its pipe is full.
            LOG.warning("log lines lost: count=%d error=%s", len(pieces), error.strerror)
        for at, piece in pieces:
            self._notify(at, piece)

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


class LogWriter:
    """Appends a replica's lines to its file, each with the time it arrived."""

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path, self._limit, self._files = path, file_bytes, files
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, lines: Sequence[tuple[datetime, bytes]]) -> None:
        """Append the lines; to a new file when this one is full."""
        data = b"".join(_stamp(at) + b" " + text + b"\n" for at, text in lines)
        if self._size and self._size + len(data) > self._limit:
            self._rotate()
        self._file.write(data)
        self._size += len(data)

    def close(self) -> None:
        self._file.close()

    def _rotate(self) -> None:
        self._file.close()
        for number in range(self._files - 1, 0, -1):
            older = _rotated(self._path, number - 1)
            if older.exists():
                older.rename(_rotated(self._path, number))
        self._file = self._path.open("wb", buffering=0)
        self._size = 0


@dataclass(frozen=True, slots=True)
class LogFile:
    """An open log file of a replica. end: the size when it was opened; more is not read."""

    instance: str
    file: BinaryIO
    end: int


def open_logs(folder: Path, query: LogQuery) -> list[LogFile]:
    """Open the files that may hold lines for `query`; `read_logs` reads and closes them."""
    opened = []
    for path in sorted(folder.glob(f"*{SUFFIX}*")):
        instance = path.name.partition(SUFFIX)[0]
        if query.instance and query.instance != instance:
            continue
        if query.since and path.stat().st_mtime < query.since.timestamp():
            continue
        file = path.open("rb", buffering=BLOCK)
        opened.append(LogFile(instance, file, os.fstat(file.fileno()).st_size))
    return opened


def read_logs(files: Sequence[LogFile], query: LogQuery) -> Iterator[LogLine]:
    """The lines for `query`, oldest first; blocks. Holds `query.tail` lines in memory."""
    try:
        if query.tail is not None:
            for file in files:
                _seek_tail(file, query.tail)
        lines = heapq.merge(
            *(_lines(file, query.id) for file in files), key=lambda line: line.timestamp
        )
        wanted = (line for line in lines if not query.since or line.timestamp >= query.since)
        yield from wanted if query.tail is None else deque(wanted, query.tail)
    finally:
        for file in files:
            file.file.close()


def prune_logs(root: Path, in_use: frozenset[str], oldest: float, most_bytes: int) -> int:
    """Remove logs of replicas that are not `in_use`; returns the bytes freed.

    Those last written before `oldest`, in unix seconds, go first, and those of all but the newest
    ENDED_REPLICAS of each function; then the oldest until all logs are within `most_bytes`.
    """
    found = [(path.stat(), path) for path in root.glob(f"*/*/*{SUFFIX}*")]
    total = sum(facts.st_size for facts, _ in found)
    ended = [each for each in found if each[1].name.partition(SUFFIX)[0] not in in_use]
    ended.sort(key=lambda each: each[0].st_mtime, reverse=True)
    kept: dict[Path, set[str]] = {}
    surplus = []
    for facts, path in ended:
        replicas = kept.setdefault(path.parent, set())
        replicas.add(path.name.partition(SUFFIX)[0])
        if facts.st_mtime < oldest or len(replicas) > ENDED_REPLICAS:
            surplus.append((facts, path))
    freed = _remove(surplus, 0)
    rest = [each for each in reversed(ended) if each not in surplus]
    freed += _remove(rest, total - freed - most_bytes, until_enough=True)
    _remove_empty(root)
    return freed


def _remove(
    files: Sequence[tuple[os.stat_result, Path]], enough: int, *, until_enough: bool = False
) -> int:
    freed = 0
    for facts, path in files:
        if until_enough and freed >= enough:
            break
        path.unlink(missing_ok=True)
        freed += facts.st_size
    return freed


def _remove_empty(root: Path) -> None:
    for folder in [*root.glob("*/*"), *root.glob("*")]:
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def _lines(source: LogFile, function: FunctionId) -> Iterator[LogLine]:
    while source.file.tell() < source.end and (line := source.file.readline()):
        stamp, _, text = line.rstrip(b"\n").partition(b" ")
        try:
            at = datetime.fromisoformat(stamp.decode("ascii"))
        except ValueError:
            continue  # half a line, from a machine that lost power
        yield LogLine(function, source.instance, at, text.decode("utf-8", "replace"))


def _seek_tail(source: LogFile, lines: int) -> None:
    """Seek, from the end, to where at most `lines` lines are left."""
    position, seen = source.end, 0
    while position > 0:
        start = max(position - BLOCK, 0)
        source.file.seek(start)
        block = source.file.read(position - start)
        breaks = [index for index, byte in enumerate(block) if byte == 0x0A]
        # The last byte of the file ends the last line, so one break more than lines is passed.
        if seen + len(breaks) > lines:
            source.file.seek(start + breaks[-(lines - seen + 1)] + 1)
            return
        seen, position = seen + len(breaks), start
    source.file.seek(0)


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}") if number else path


def _stamp(at: datetime) -> bytes:
    return at.astimezone(UTC).isoformat(timespec="microseconds").encode()
