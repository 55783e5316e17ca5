"""The locked pid file: at most one platform runs on a data folder."""

import fcntl
import os
import select
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice.cli.errors import CommandError


def pidfile_path(data_dir: Path) -> Path:
    """Where the platform of `data_dir` writes its process id."""
    return data_dir / "run" / "sluice.pid"


class PidFile:
    """Held while the platform runs; the kernel frees the lock whatever way the process ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.read(self._fd, 32).decode().strip()
            os.close(self._fd)
            raise CommandError(
                f"already running with pid {holder}; `sluice down` ends it"
            ) from error
        os.ftruncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.ftruncate(self._fd, 0)
        os.close(self._fd)


def running_pid(path: Path) -> int | None:
    """Process id of the platform that holds the lock on `path`, None when nothing runs."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(fd, 32) or b"0") or None
    else:
        return None
    finally:
        os.close(fd)


def stop(pid: int, timeout: float) -> None:
    """Ask `pid` to drain and wait until it has ended. Raises CommandError after `timeout` s."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        ended, _, _ = select.select([fd], [], [], timeout)
    finally:
        os.close(fd)
    if not ended:
        raise CommandError(f"pid {pid} has not ended after {timeout:.0f} s; calls may be under way")
