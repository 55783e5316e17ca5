"""Blanks: processes that are to become replicas, and are told whose only by an order.

One that a zygote made before anybody asked is a spare: it has left the gateway's namespaces and
has joined its control group, which take 20 ms of a start (docs/adr/0014).
"""

import asyncio
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.providers.embedded.cgroups import Group, Groups, Limits
from gateway.providers.embedded.pipes import Event, read_event

MESSAGE_BYTES: Final = 8192
SPECIALIZE: Final = b"order"


@dataclass(frozen=True, slots=True)
class Shape:
    """What a blank must be made with. threads: of its numeric libraries."""

    isolated: bool
    threads: int
    limits: Limits

    def fits(self, other: "Shape") -> bool:
        """Whether a blank of the other shape will do: limits may be set anew, not joined."""
        return self._joined() == other._joined()  # noqa: SLF001 - of its own kind

    def _joined(self) -> tuple[bool, int, bool, bool]:
        """What cannot be changed any more once a blank is made."""
        limits = self.limits
        return self.isolated, self.threads, limits.memory is not None, limits.cpu is not None


class UnspecializedProcess:
    """Our ends of one blank, and the control group it is in.

    To be made in any thread, and closed there if need be until it is watched.
    """

    def __init__(self, shape: Shape, group: Group | None) -> None:
        self.shape, self.group, self._watched = shape, group, False
        self.specialized = False
        joined = [os.open(file, os.O_WRONLY) for file in group.join_files()] if group else []
        self._supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._supervision.setblocking(False)
        self._specialization, specialized = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = [supervised.detach(), specialized.detach(), *joined]

    def request(self, channel: socket.socket, *, warm: bool = False) -> None:
        """Have a process made. Raises OSError when nobody is there to make it."""
        document = {"isolated": self.shape.isolated, "threads": self.shape.threads, "spare": warm}
        socket.send_fds(channel, [json.dumps(document).encode()], self._theirs)
        self._close_theirs()

    def specialize(self, descriptors: Sequence[int]) -> None:
        """Say whose replica it is. Raises OSError when it has ended."""
        socket.send_fds(self._specialization, [SPECIALIZE], list(descriptors))
        self._specialization.close()
        self.specialized = True

    def watch(self, notify: Callable[[Event, int], None]) -> None:
        """Call back with each event of the intermediate process and the descriptor sent along.

        -1 is none; an empty event is the end.
        """
        self._watched = True
        asyncio.get_running_loop().add_reader(self._supervision.fileno(), self._read, notify)

    def close(self) -> None:
        """Close our ends: what still runs ends by that."""
        self._close_theirs()
        self._specialization.close()
        if self._watched:
            self._ignore()
        self._supervision.close()

    async def discard(self) -> None:
        """End one that nobody ordered, and give its group back."""
        await self.end()
        if self.group is not None:
            await asyncio.to_thread(self.group.remove)

    async def end(self) -> None:
        """End one that nobody ordered; returns when it has."""
        self._close_theirs()
        self._specialization.close()
        ended = asyncio.get_running_loop().create_future()

        def notify(event: Event, descriptor: int) -> None:
            if descriptor >= 0:
                os.close(descriptor)
            if not event and not ended.done():
                ended.set_result(None)

        self.watch(notify)
        await ended
        self.close()

    def _read(self, notify: Callable[[Event, int], None]) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._supervision, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            self._ignore()
        notify(read_event(data), descriptors[0] if descriptors else -1)

    def _ignore(self) -> None:
        self._watched = False
        asyncio.get_running_loop().remove_reader(self._supervision.fileno())

    def _close_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs = []


def make_unspecialized(groups: Groups | None, shape: Shape, name: str) -> UnspecializedProcess:
    """A blank with a new control group where it is limited; blocks. Raises OSError."""
    group = groups.create(name, shape.limits) if groups and shape.limits else None
    try:
        return UnspecializedProcess(shape, group)
    except OSError:
        if group is not None:
            group.remove()
        raise
