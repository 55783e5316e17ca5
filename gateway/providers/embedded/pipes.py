"""The gateway's ends of a replica's pipes, and the descriptors that the replica is sent."""

import asyncio
import os
import socket
from collections.abc import Callable
from typing import Final

from sluice.launch import Event, ReplicaRequest, Specialization, decode

STATUS_CHUNK: Final = 16 << 10
LONGEST_STATUS_LINE: Final = 64 << 10


class ReplicaPipes:
    """Both ends of a replica's pipes. log: our end, which whoever reads it closes."""

    def __init__(self, request: ReplicaRequest, listener: socket.socket) -> None:
        """Takes over `listener`."""
        self._rest = b""
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        self.log, log = os.pipe()
        self._theirs: Specialization | None = Specialization(
            request.write(), listener.detach(), status, log
        )

    def specialize(self, send: Callable[[Specialization], None]) -> None:
        """Send the replica its ends and close our copies: its own are then the only ones."""
        if self._theirs is None:
            raise RuntimeError("the replica's ends are closed")
        try:
            send(self._theirs)
        finally:
            self._close_theirs()

    def watch(self, notify: Callable[[Event], None]) -> None:
        """Call back with each event that the replica writes. A function can write any of them."""
        asyncio.get_running_loop().add_reader(self._status, self.read_status, notify)

    def read_status(self, notify: Callable[[Event], None]) -> None:
        """Call back with each event written so far."""
        while self._status >= 0:
            try:
                data = os.read(self._status, STATUS_CHUNK)
            except BlockingIOError:
                return
            if not data:
                self._close_status()
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._rest = self._rest[-LONGEST_STATUS_LINE:]
            for line in lines:
                if event := decode(line):
                    notify(event)

    def close(self) -> None:
        """Close all but `log`."""
        self._close_theirs()
        if self._status >= 0:
            self._close_status()

    def _close_theirs(self) -> None:
        if self._theirs is not None:
            for descriptor in self._theirs.descriptors:
                os.close(descriptor)
            self._theirs = None

    def _close_status(self) -> None:
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        self._status = -1
