"""Keeps one replica of a generation running, with a growing pause after each failure."""

import asyncio
import logging
from functools import partial
from typing import Final, Protocol

from gateway.providers.embedded.launch import LaunchContext, ReplicaSpec
from gateway.providers.embedded.replica import Phase, ReplicaProcess
from gateway.types.function import Replica, ReplicaState
from sluice.backoff import Backoff, no_jitter

LOG: Final = logging.getLogger(__name__)
FIRST_PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 30.0
STEADY: Final = 60.0  # seconds alive after which the pause starts over
MOST_LOST: Final = 4  # starts in a row, lost with their zygote, that are no failure yet
BRIEF: Final = 1.0  # a replica that asks to be replaced before this is treated as failed


class Owner(Protocol):
    """The function that a worker belongs to."""

    def worker_changed(self, worker: "ReplicaWorker") -> None:
        """The worker's replica has another state."""

    def worker_failed(self, worker: "ReplicaWorker", reason: str) -> None:
        """The worker's replica ended by itself before it was ready."""

    def replica_leaves(self, process: ReplicaProcess) -> None:
        """The worker is about to replace a replica that may not have ended yet."""


class ReplicaWorker:
    """Runs one replica of a generation at a time. number: of the generation."""

    def __init__(
        self, number: int, spec: ReplicaSpec, context: LaunchContext, owner: Owner
    ) -> None:
        self.number = number
        self.spec, self._context, self._owner = spec, context, owner
        self.process: ReplicaProcess | None = None
        self.restarts, self._before = 0, ""
        # The pauses since the last steady replica; None before the first one.
        self._backoff: Backoff | None = None
        self._hurry = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    @property
    def ready(self) -> bool:
        return self.process is not None and self.process.state is ReplicaState.READY

    def view(self) -> Replica | None:
        """The replica as the status shows it; None before the first one."""
        return self.process.view(self.restarts, self._before) if self.process else None

    def hurry(self) -> None:
        """End the current pause now, and begin again with the shortest."""
        self._backoff = None
        self._hurry.set()

    def retire(self) -> ReplicaProcess | None:
        """Start no more; returns the replica to be terminated, if any, marked as draining."""
        process = self.process
        if process is None or process.gone.done():
            self._task.cancel()
            return None
        if process.state is ReplicaState.STARTING:
            # Its start is cancelled, which kills it: it has no calls yet.
            self._task.cancel()
            process.drain()
            return process
        process.drain()
        self._task.cancel()
        return process

    async def wait(self) -> None:
        """Return once the worker has stopped."""
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._live()
            except Exception:
                LOG.exception("worker failed: function=%s", self.spec.deployment.id)
                await self._pause(0.0)

    async def _live(self) -> None:
        """One replica's life, and the pause before the next."""
        process = await self._start()
        begun = asyncio.get_running_loop().time()
        reason = await asyncio.shield(process.left)
        lived = asyncio.get_running_loop().time() - begun
        self._before, self.restarts = reason, self.restarts + 1
        function = self.spec.deployment.id
        LOG.warning("replica ended: function=%s replica=%s reason=%r", function, process.id, reason)
        # One that asked to be replaced is replaced at once, unless it does so all the time.
        if process.state is not ReplicaState.DRAINING or lived < BRIEF:
            await self._pause(lived)
        self._owner.replica_leaves(process)

    async def _start(self) -> ReplicaProcess:
        """Start a replica; returns it once it is ready or has ended."""
        process = await self._start_once()
        for _ in range(MOST_LOST):
            if process.phase is not Phase.LOST:
                break
            # Its zygote was killed: that is not the function's fault.
            LOG.warning("start lost: function=%s replica=%s", self.spec.deployment.id, process.id)
            process = await self._start_once()
        if process.phase is Phase.LOST:
            process.give_up()
        if process.phase is Phase.START_FAILED:
            self._owner.worker_failed(self, process.reason)
        return process

    async def _start_once(self) -> ReplicaProcess:
        changed = partial(self._owner.worker_changed, self)
        self.process = process = ReplicaProcess(self.spec, self._context, changed)
        self._owner.worker_changed(self)
        await process.start()
        return process

    async def _pause(self, lived: float) -> None:
        self._hurry.clear()
        if self._backoff is None or lived >= STEADY:
            self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE, no_jitter)
        try:
            await asyncio.wait_for(self._hurry.wait(), self._backoff.next())
        except TimeoutError:
            return
