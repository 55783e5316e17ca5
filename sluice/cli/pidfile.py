"""The locked pid file: at most one platform runs on a data folder."""

import os
import select
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

from sluice.cli.errors import CommandError
from sluice.file_lock import FileLock, LockedError


def pidfile_path(data_dir: Path) -> Path:
    """Where the platform of `data_dir` writes its process id."""
    return data_dir / "run" / "sluice.pid"


class PidFile:
    """Held while the platform runs; the kernel frees the lock whatever way the process ends."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path)

    def __enter__(self) -> Self:
        self._lock.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            self._lock.acquire()
        except LockedError as error:
            holder = error.holder or ""
            raise CommandError(
                f"already running with pid {holder}; `sluice down` ends it"
            ) from error
        self._lock.write_holder()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.clear_holder()
        self._lock.release()


def running_pid(path: Path) -> int | None:
    """Process id of the platform that holds the lock on `path`, None when nothing runs."""
    try:
        with FileLock(path, create=False):
            return None
    except FileNotFoundError:
        return None
    except LockedError as error:
        return error.holder


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
