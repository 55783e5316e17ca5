"""The lifecycle of a service's process: single instance, socket, exit code."""

import asyncio
import contextlib
import logging
import os
import socket
import stat
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import uvloop

from sluice import logs
from sluice.file_lock import FileLock, LockedError
from sluice.migrations import NewerSchemaError
from sluice.settings import SettingError
from sluice.settings.sockets import socket_address

BACKLOG: Final = 1024
log = logging.getLogger(__name__)


class InUseError(Exception):
    """The socket path exists and is not a socket."""


class ServiceSettings(Protocol):
    """Settings that a service's process needs. lock_path: a file locked by one process."""

    @property
    def log_format(self) -> str: ...

    @property
    def lock_path(self) -> Path: ...

    @property
    def socket_path(self) -> Path: ...


S = TypeVar("S", bound=ServiceSettings)


def run(
    read: Callable[[Mapping[str, str]], S],
    serve: Callable[[S, socket.socket], Coroutine[Any, Any, None]],
) -> int:
    """Exit code: 0 after SIGTERM, 1 without lock, socket or database, 2 for invalid settings.

    read: parses the settings from an environment. serve: runs the service until SIGTERM.
    """
    try:
        settings = read(os.environ)
        logs.configure(settings.log_format)
        with (
            locked(settings.lock_path),
            listening(settings.socket_path) as listener,
            asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
        ):
            runner.run(serve(settings, listener))
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (InUseError, LockedError, NewerSchemaError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    log.info("event=stopped")
    return 0


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock `path` for this process and write its pid there. Raises LockedError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(path) as lock:
        lock.write_holder()
        yield


@contextlib.contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """A listening Unix socket that only its owner can open; replaces a stale socket.

    Raises InUseError when the path exists and is not a socket.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise InUseError(f"{path} is not a socket")
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        before = os.umask(0o177)
        try:
            listener.bind(socket_address(path))
        finally:
            os.umask(before)
        listener.listen(BACKLOG)
        try:
            yield listener
        finally:
            path.unlink(missing_ok=True)
