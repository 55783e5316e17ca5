"""Folders and sockets of the provider, and the clean-up after a killed gateway."""

import os
import shutil
import socket
import tempfile
from pathlib import Path
from secrets import token_hex
from typing import Final

from gateway.providers.embedded import scratch
from gateway.types.errors import UnavailableError
from gateway.types.ids import FunctionId
from sluice.file_lock import FileLock, LockedError

LONGEST_SOCKET_PATH: Final = 107  # bytes of sun_path without its last zero
SOCKET_NAME_BYTES: Final = 17
BACKLOG: Final = 1024


class Paths:
    """Paths in one data folder, which no other gateway uses until `close`."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = Path(os.path.realpath(data_dir))
        self.run = self.data_dir / "run"
        self.replicas = self.run / "replicas"
        self.secret_views = self.run / "secret-views"
        self.logs = self.data_dir / "logs"
        self.sockets = self.run / "sockets"
        self._short_link = self.run / "sockets-folder"
        self._lock = FileLock(self.run / "provider.lock")

    def open(self) -> None:
        """Claim the folder and remove what a killed gateway left. Raises UnavailableError."""
        for folder in (self.run, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim()
        self._remove_leftovers()
        self.replicas.mkdir(mode=0o700)
        self._make_sockets()

    def close(self) -> None:
        """Remove what was made for replicas and give up the claim."""
        self._remove_leftovers()
        self._lock.release()

    def make_replica(self, replica: str) -> Path:
        """Make a private folder for one replica, which sees it as /tmp."""
        folder = self.replicas / replica
        folder.mkdir(mode=0o700)
        return folder

    def make_cache(self, function: FunctionId) -> Path:
        """Make the folder that a function's replicas share and that outlives them."""
        folder = self.cache(function)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return folder

    def remove_cache(self, function: FunctionId) -> None:
        """Remove the cache of a removed function."""
        scratch.remove(self.cache(function))

    def cache(self, function: FunctionId) -> Path:
        """Where a function's cache is, or would be."""
        return self.data_dir / "cache" / function.namespace / function.name

    def listen(self) -> tuple[str, socket.socket]:
        """A new listening Unix socket and its path."""
        path = str(self.sockets / token_hex(8))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            listener.bind(path)
            Path(path).chmod(0o600)
            listener.listen(BACKLOG)
        except OSError:
            listener.close()
            raise
        return path, listener

    def _claim(self) -> None:
        try:
            self._lock.acquire()
        except LockedError as error:
            raise UnavailableError(f"another gateway uses {self.data_dir}") from error

    def _make_sockets(self) -> None:
        longest = len(os.fsencode(self.run / "sockets")) + SOCKET_NAME_BYTES
        if longest <= LONGEST_SOCKET_PATH:
            self.sockets = self.run / "sockets"
            self.sockets.mkdir(mode=0o700)
            return
        self.sockets = Path(os.path.realpath(tempfile.mkdtemp(prefix="sluice-")))
        # If this process is killed, the next start finds the folder by this link.
        self._short_link.symlink_to(self.sockets)

    def _remove_leftovers(self) -> None:
        for folder in (self.replicas, self.secret_views):
            scratch.remove(folder)
        self._remove_sockets()

    def _remove_sockets(self) -> None:
        if self._short_link.is_symlink():
            folder = self._short_link.readlink()
            if folder.is_dir() and folder.stat().st_uid == os.geteuid():
                shutil.rmtree(folder, ignore_errors=True)
            self._short_link.unlink()
        shutil.rmtree(self.run / "sockets", ignore_errors=True)
