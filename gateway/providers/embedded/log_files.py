"""Lines of replicas in files: NAMESPACE/FUNCTION/REPLICA.log, rotated, and read back in order."""

import heapq
import os
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Final

from gateway.types.function import LogLine, LogQuery
from gateway.types.ids import FunctionId

LONGEST_LINE: Final = 64 << 10
SUFFIX: Final = ".log"
ENDED_REPLICAS: Final = 50  # whose logs are kept of one function
BLOCK: Final = 64 << 10


class LogWriter:
    """Appends a replica's lines to its file, each with the time it came."""

    def __init__(self, path: Path, file_bytes: int, files: int) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._path, self._limit, self._files = path, file_bytes, files
        self._file: BinaryIO = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, lines: Sequence[tuple[datetime, bytes]]) -> None:
        """Append the lines, in a new file when this one is full."""
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
    """The files that may hold what `query` asks for; to be read, and closed, by `read_logs`."""
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
    """The lines that `query` asks for, oldest first; blocks, and holds `query.tail` lines."""
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

    oldest: unix seconds; what was last written before goes. Then the oldest go until all logs
    together are within `most_bytes`, and until no function has more than ENDED_REPLICAS.
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
            continue  # half a line, from a machine that went down
        yield LogLine(function, source.instance, at, text.decode("utf-8", "replace"))


def _seek_tail(source: LogFile, lines: int) -> None:
    """Move to where at most `lines` lines are left, reading from the end."""
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
