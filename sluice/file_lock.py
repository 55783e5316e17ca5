"""Locks on files: one process holds each, and the kernel gives it back however that process ends.

flock(2) on a descriptor that started programs do not inherit. Not the library filelock (4.3): it
cannot lock a folder, imports 51 modules into each program (0.1 s), and where a file system has no
flock it turns to a marker file, which a killed process leaves behind.
"""

import asyncio
import fcntl
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Self


class LockedError(Exception):
    """Another process holds the lock. holder: its process id, None where the file names none."""

    def __init__(self, path: Path, holder: int | None) -> None:
        super().__init__(f"{path} is in use by process {holder or 'unknown'}")
        self.path, self.holder = path, holder


class FileLock:
    """A lock that is tried, never waited for. For `with`, or `acquire` and `release`.

    create: make the file where it is not there; else the path may also be a folder.
    """

    __slots__ = ("_create", "_descriptor", "path")

    def __init__(self, path: Path, create: bool = True) -> None:
        self.path, self._create = path, create
        self._descriptor = -1

    def acquire(self) -> None:
        """Take the lock. Raises LockedError, and OSError where the file cannot be opened."""
        flags = os.O_RDWR | os.O_CREAT if self._create else os.O_RDONLY
        descriptor = os.open(self.path, flags, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = _holder(descriptor)
            os.close(descriptor)
            raise LockedError(self.path, holder) from None
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor

    def release(self) -> None:
        """Give the lock back, if it is held."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def write_holder(self) -> None:
        """Name this process in the file, for the error of who else wants the lock."""
        self.clear_holder()
        os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def clear_holder(self) -> None:
        """Name nobody in the file."""
        os.ftruncate(self._descriptor, 0)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.release()


@asynccontextmanager
async def file_lock(path: Path) -> AsyncIterator[None]:
    """Hold `path`, waited for in a thread; the file is made where it is not there."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    waiting = asyncio.ensure_future(asyncio.to_thread(fcntl.flock, descriptor, fcntl.LOCK_EX))
    try:
        await asyncio.shield(waiting)
        yield
    finally:
        # Closed by the thread's end: a number that is in use must not become another file's.
        waiting.add_done_callback(lambda _: os.close(descriptor))


def _holder(descriptor: int) -> int | None:
    try:
        text = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
    except IsADirectoryError:
        return None
    return int(text) if text.isdecimal() else None
