"""`python -m triggers`: serve the event sources and their API until SIGTERM."""

import asyncio
import fcntl
import logging
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Final

import uvloop

from settings import SettingError
from triggers.app import serve
from triggers.schema import SchemaTooNewError
from triggers.settings import TriggersSettings

BACKLOG: Final = 1024
log = logging.getLogger("triggers")


class InUseError(Exception):
    """Another process has the socket."""


def lock(path: Path) -> int:
    """A descriptor that holds the socket's name for this process. Raises InUseError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    name = path.with_name(f"{path.name}.lock")
    descriptor = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise InUseError(f"{path} is in use by process {owner}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def listen(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner can open; one left behind is replaced."""
    if path.exists() and not stat.S_ISSOCK(path.stat().st_mode):
        raise InUseError(f"{path} is not a socket")
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(BACKLOG)
    return listener


def main() -> int:
    """Exit code: 0 after SIGTERM, 1 when socket or database cannot be used, 2 for settings."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    try:
        settings = TriggersSettings.load(os.environ)
        held = lock(settings.socket_path)
        listener = listen(settings.socket_path)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, listener))
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (InUseError, SchemaTooNewError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    settings.socket_path.unlink(missing_ok=True)
    os.close(held)
    log.info("event=stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
