"""What a replica is ordered with: its request, socket, status pipe and log; what it tells."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

STATUS_CHUNK: Final = 16 << 10
LONGEST_STATUS_LINE: Final = 64 << 10
LONGEST_REASON: Final = 1000

Event = Mapping[str, Any]


class ReplicaPipes:
    """Both ends of a replica's pipes; `theirs` is closed once it is handed over."""

    def __init__(self, request: Mapping[str, Any], listener: socket.socket) -> None:
        """request: document of `sluice.launch.Request`. Takes over `listener`."""
        self._rest = b""
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        self.log, log = os.pipe()
        # In the order of `sluice.launch.Order`.
        self.theirs = [_memory_file(request), listener.detach(), status, log]

    def close_theirs(self) -> None:
        """Close our copies of the replica's ends, so that its own are the only ones."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def watch(self, told: Callable[[Event], None]) -> None:
        """Call back with each event that the runtime tells, never to be trusted."""
        self._told = told
        asyncio.get_running_loop().add_reader(self._status, self.read_status)

    def read_status(self) -> None:
        """Pass on what the runtime has told so far."""
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
                if event := read_event(line):
                    self._told(event)

    def close(self) -> None:
        """Close our ends but for the log's, which its collector has."""
        self.close_theirs()
        if self._status >= 0:
            self._close_status()

    def _close_status(self) -> None:
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        self._status = -1


def reason_of(event: Event) -> str:
    """The reason that an event gives, within bounds."""
    return str(event.get("reason", ""))[:LONGEST_REASON]


def read_event(line: bytes) -> Event:
    """The JSON object in `line`; empty for anything else."""
    with suppress(ValueError):
        event = json.loads(line)
        if isinstance(event, dict):
            return event
    return {}


def _memory_file(document: Mapping[str, Any]) -> int:
    descriptor = os.memfd_create("request", os.MFD_CLOEXEC)
    with os.fdopen(descriptor, "wb", closefd=False) as file:
        file.write(json.dumps(document).encode())
    return descriptor
