"""Processes that become replicas once they are specialized, and the pool of those made ahead.

A warm process is one that a zygote made before anybody asked: it has left the gateway's namespaces
and joined its control group, which takes 20 ms of a start (docs/adr/0014).
"""

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from gateway.providers.embedded.cgroups import Group, Groups, Limits
from sluice import launch
from sluice.launch import Event, ProcessSpec, Specialization

LOG: Final = logging.getLogger(__name__)
# After the last start: making a process takes a core for 10 ms, which the first call may need.
QUIET: Final = 0.1


@dataclass(frozen=True, slots=True)
class Shape:
    """What an unspecialized process must be made with. threads: of its numeric libraries."""

    isolated: bool
    threads: int
    limits: Limits

    def fits(self, other: "Shape") -> bool:
        """Whether a process of the other shape will do: limits can be changed, groups cannot."""
        return self._fixed() == other._fixed()  # noqa: SLF001 - of the same class

    def _fixed(self) -> tuple[bool, int, bool, bool]:
        """What cannot be changed once a process is made."""
        limits = self.limits
        return self.isolated, self.threads, limits.memory is not None, limits.cpu is not None


class UnspecializedProcess:
    """Our ends of one process, and the control group it is in.

    To be made in any thread, and closed there if need be until it is watched.
    """

    def __init__(self, shape: Shape, group: Group | None) -> None:
        self.shape, self.group = shape, group
        joined = [os.open(file, os.O_WRONLY) for file in group.join_files()] if group else []
        self._supervision, supervised = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._supervision.setblocking(False)
        self._specialization, specialized = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._theirs = [supervised.detach(), specialized.detach(), *joined]

    def request(self, channel: socket.socket, *, warm: bool = False) -> None:
        """Have the process made. Raises OSError when nobody is there to make it."""
        supervision, specialization, *groups = self._theirs
        shape = self.shape
        spec = ProcessSpec(
            shape.isolated, shape.threads, warm, supervision, specialization, tuple(groups)
        )
        spec.send(channel)
        self._close_theirs()

    def specialize(self, specialization: Specialization) -> None:
        """Make it a replica. Raises OSError when it has ended."""
        specialization.send(self._specialization)
        self._specialization.close()

    def watch(self, notify: Callable[[Event | None, int], None]) -> None:
        """Call back with each event of the intermediate process and the descriptor sent along.

        -1 is no descriptor; no event is the end of the intermediate process.
        """
        asyncio.get_running_loop().add_reader(self._supervision.fileno(), self._read, notify)

    async def end(self) -> None:
        """End what still runs and close our ends.

        Waits for a process that was not specialized: its control group cannot be removed before.
        """
        if self._specialization.fileno() >= 0:
            await self._await_end()
        self._stop_watching()
        self.close()

    async def discard(self) -> None:
        """End one that was not specialized, and remove its group."""
        await self.end()
        if self.group is not None:
            await asyncio.to_thread(self.group.remove)

    def close(self) -> None:
        """Close our ends of one that is not watched: a process that was made ends by that."""
        self._close_theirs()
        self._specialization.close()
        self._supervision.close()

    async def _await_end(self) -> None:
        self._close_theirs()
        self._specialization.close()
        ended = asyncio.get_running_loop().create_future()

        def notify(event: Event | None, descriptor: int) -> None:
            if descriptor >= 0:
                os.close(descriptor)
            if event is None and not ended.done():
                ended.set_result(None)

        self.watch(notify)
        await ended

    def _read(self, notify: Callable[[Event | None, int], None]) -> None:
        try:
            event, descriptor = launch.receive(self._supervision)
        except BlockingIOError:
            return
        if event is None:
            self._stop_watching()
        notify(event, descriptor)

    def _stop_watching(self) -> None:
        if self._supervision.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._supervision.fileno())

    def _close_theirs(self) -> None:
        for descriptor in self._theirs:
            os.close(descriptor)
        self._theirs = []


def make_unspecialized(groups: Groups | None, shape: Shape, name: str) -> UnspecializedProcess:
    """A process to be requested, with a new control group if limited; blocks. Raises OSError."""
    group = groups.create(name, shape.limits) if groups and shape.limits else None
    try:
        return UnspecializedProcess(shape, group)
    except OSError:
        if group is not None:
            group.remove()
        raise


@dataclass(slots=True)
class _Entry:
    """What is kept for one zygote. timer: until the next process is made."""

    shape: Shape
    request: Callable[[UnspecializedProcess], None]
    process: UnspecializedProcess | None = None
    timer: asyncio.TimerHandle | None = None


class WarmPool:
    """At most one warm process for each key. groups: where their control groups are made."""

    def __init__(self, groups: Groups | None) -> None:
        self._groups = groups
        self._entries: dict[str, _Entry] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, key: str, shape: Shape) -> UnspecializedProcess | None:
        """The warm process of that shape, which becomes the caller's."""
        entry = self._entries.get(key)
        if entry is None or entry.process is None or not entry.process.shape.fits(shape):
            return None
        process, entry.process = entry.process, None
        return process

    def want(self, key: str, shape: Shape, request: Callable[[UnspecializedProcess], None]) -> None:
        """Have a process made once nothing has started for a moment. request: has it forked."""
        entry = self._entries.setdefault(key, _Entry(shape, request))
        entry.shape, entry.request = shape, request
        if entry.timer is not None:
            entry.timer.cancel()
        loop = asyncio.get_running_loop()
        entry.timer = loop.call_later(QUIET, lambda: self._spawn(self._make(key, entry)))

    def drop(self, key: str) -> None:
        """End the warm process of a zygote that ends."""
        entry = self._entries.pop(key, None)
        if entry is None:
            return
        if entry.timer is not None:
            entry.timer.cancel()
        if entry.process is not None:
            self._spawn(entry.process.discard())

    async def close(self) -> None:
        """End every warm process."""
        for key in list(self._entries):
            self.drop(key)
        await asyncio.gather(*self._tasks)

    async def _make(self, key: str, entry: _Entry) -> None:
        shape = entry.shape
        if entry.process is not None:
            if entry.process.shape.fits(shape):
                return
            process, entry.process = entry.process, None
            await process.discard()
        name = f"warm-{token_hex(5)}"
        try:
            process = await asyncio.to_thread(make_unspecialized, self._groups, shape, name)
        except OSError as error:
            LOG.warning("no warm process: error=%s", error)
            return
        if self._entries.get(key) is entry and entry.process is None:
            with suppress(OSError):  # the zygote has ended, and with it the entry
                entry.request(process)
                entry.process = process
                return
        await process.discard()

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
