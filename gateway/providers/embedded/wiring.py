"""The descriptors between the gateway and one replica: what each side holds, and their events."""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

MESSAGE_BYTES: Final = 8192
STATUS_CHUNK: Final = 16 << 10
LONGEST_STATUS_LINE: Final = 64 << 10
LONGEST_REASON: Final = 1000

Event = Mapping[str, Any]


class Wiring:
    """Both ends of a replica's pipes and sockets; `theirs` is closed once it is handed over."""

    def __init__(
        self, request: Mapping[str, Any], listener: socket.socket, groups: Sequence[Path]
    ) -> None:
        """request: document of `runtime.replica.Request`. Takes over `listener`.

        groups: cgroup.procs files of the control groups to join.
        """
        self._rest = b""
        joined = [os.open(file, os.O_WRONLY) for file in groups]
        self._supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._supervision.setblocking(False)
        self._status, status = os.pipe()
        os.set_blocking(self._status, False)
        self.log, log = os.pipe()
        ends = [supervised.detach(), listener.detach(), status, log]
        self.theirs: list[int] = [_memory_file(request), *ends, *joined]

    def close_theirs(self) -> None:
        """Close our copies of the replica's ends, so that its own are the only ones."""
        for descriptor in self.theirs:
            os.close(descriptor)
        self.theirs = []

    def watch(
        self, on_status: Callable[[Event], None], on_supervision: Callable[[Event, int], None]
    ) -> None:
        """Call back with each event.

        on_status: what the runtime tells, never to be trusted. on_supervision: what the
        intermediate process tells, with the descriptor sent along or -1; at the end of the
        socket an empty event.
        """
        loop = asyncio.get_running_loop()
        self._on_status = on_status
        loop.add_reader(self._status, self.read_status)
        loop.add_reader(self._supervision.fileno(), self._supervised, on_supervision)

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
                if event := _event(line):
                    self._on_status(event)

    def close(self) -> None:
        """Close our ends but for the log's, which its collector has."""
        self.close_theirs()
        if self._status >= 0:
            self._close_status()
        if self._supervision.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._supervision.fileno())
            self._supervision.close()

    def _supervised(self, on_supervision: Callable[[Event, int], None]) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._supervision, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            asyncio.get_running_loop().remove_reader(self._supervision.fileno())
        on_supervision(_event(data), descriptors[0] if descriptors else -1)

    def _close_status(self) -> None:
        asyncio.get_running_loop().remove_reader(self._status)
        os.close(self._status)
        self._status = -1


def reason_of(event: Event) -> str:
    """The reason that an event gives, within bounds."""
    return str(event.get("reason", ""))[:LONGEST_REASON]


def _event(line: bytes) -> Event:
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
