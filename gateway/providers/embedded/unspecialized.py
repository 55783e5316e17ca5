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
ORDER: Final = b"order"


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


class Blank:
    """Our ends of one blank, and the control group it is in.

    To be made in any thread, and closed there if need be until it is watched.
    """

    def __init__(self, shape: Shape, group: Group | None) -> None:
        self.shape, self.group, self._watched = shape, group, False
        self.ordered = False
        joined = [os.open(file, os.O_WRONLY) for file in group.join_files()] if group else []
        self._supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._supervision.setblocking(False)
        self._orders, ordered = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = [supervised.detach(), ordered.detach(), *joined]

    def request(self, channel: socket.socket, *, spare: bool = False) -> None:
        """Have a process made. Raises OSError when nobody is there to make it."""
        document = {"isolated": self.shape.isolated, "threads": self.shape.threads, "spare": spare}
        socket.send_fds(channel, [json.dumps(document).encode()], self._theirs)
        self._close_theirs()

    def order(self, descriptors: Sequence[int]) -> None:
        """Say whose replica it is. Raises OSError when it has ended."""
        socket.send_fds(self._orders, [ORDER], list(descriptors))
        self._orders.close()
        self.ordered = True

    def watch(self, told: Callable[[Event, int], None]) -> None:
        """Call back with each event of the intermediate process and the descriptor sent along.

        -1 is none; an empty event is the end.
        """
        self._watched = True
        asyncio.get_running_loop().add_reader(self._supervision.fileno(), self._read, told)

    def close(self) -> None:
        """Close our ends: what still runs ends by that."""
        self._close_theirs()
        self._orders.close()
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
        self._orders.close()
        ended = asyncio.get_running_loop().create_future()

        def told(event: Event, descriptor: int) -> None:
            if descriptor >= 0:
                os.close(descriptor)
            if not event and not ended.done():
                ended.set_result(None)

        self.watch(told)
        await ended
        self.close()

    def _read(self, told: Callable[[Event, int], None]) -> None:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._supervision, MESSAGE_BYTES, 1)
        except BlockingIOError:
            return
        except ConnectionError:
            data, descriptors = b"", []
        if not data:
            self._ignore()
        told(read_event(data), descriptors[0] if descriptors else -1)

    def _ignore(self) -> None:
        self._watched = False
        asyncio.get_running_loop().remove_reader(self._supervision.fileno())

    def _close_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs = []


def make_blank(groups: Groups | None, shape: Shape, name: str) -> Blank:
    """A blank with a new control group where it is limited; blocks. Raises OSError."""
    group = groups.create(name, shape.limits) if groups and shape.limits else None
    try:
        return Blank(shape, group)
    except OSError:
        if group is not None:
            group.remove()
        raise
