"""`python -m registry`: serve the registry on its Unix socket until SIGTERM."""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import uvicorn
import uvloop

from registry.api.service import Bell
from registry.app import create
from registry.migrations import SchemaTooNewError
from registry.settings import RegistrySettings, read_settings
from settings import SettingError

KEEP_ALIVE: Final = 90  # seconds; longer than the gateway keeps an idle connection
STOPS: Final = (signal.SIGTERM, signal.SIGINT)
BACKLOG: Final = 1024
log = logging.getLogger("registry")


class Server(uvicorn.Server):
    """uvicorn's server for a process that ends with 0 on SIGTERM, after its own clean-up.

    Overrides `capture_signals`, which would raise the signal again, and `shutdown`, so that
    long polls end at once.
    """

    def __init__(self, config: uvicorn.Config, bell: Bell) -> None:
        super().__init__(config)
        self._bell = bell

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in STOPS:
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in STOPS:
                loop.remove_signal_handler(number)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._bell.close()
        await super().shutdown(sockets)


class InUseError(Exception):
    """Another registry has the data folder."""


def lock(settings: RegistrySettings) -> int:
    """A descriptor that holds the data folder for this process. Raises InUseError."""
    settings.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(settings.folder / "registry.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode().strip() or "unknown"
        os.close(descriptor)
        raise InUseError(f"{settings.folder} is in use by process {owner}") from None
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(os.getpid()).encode(), 0)
    return descriptor


def listen(path: Path) -> socket.socket:
    """A listening Unix socket that only its owner can open; one left behind is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
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
    """Exit code: 0 after SIGTERM, 1 when the folder or database can not be used, 2 for settings."""
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    try:
        settings = read_settings(os.environ)
        held = lock(settings)
        app = create(settings)
        listener = listen(settings.socket_path)
    except SettingError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except (InUseError, SchemaTooNewError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace)),
    )
    log.info("event=listening socket=%s", settings.socket_path)
    uvloop.run(Server(config, app.state.service.bell).serve(sockets=[listener]))
    settings.socket_path.unlink(missing_ok=True)
    os.close(held)
    log.info("event=stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
