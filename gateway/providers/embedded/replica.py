"""One replica of a function: from its start to the reason it ended for."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from enum import Enum, auto
from secrets import token_hex
from typing import Final

from gateway.providers.embedded import exit_reasons, processes
from gateway.providers.embedded.health import responds
from gateway.providers.embedded.launch import (
    LaunchContext,
    ReplicaHandles,
    ReplicaSpec,
    prepare,
    remove,
)
from gateway.providers.embedded.logs import Collector
from gateway.providers.embedded.unspecialized import UnspecializedProcess
from gateway.types.errors import SluiceError
from gateway.types.function import Replica, ReplicaState, UnixAddress, Usage
from sluice.launch import Event, Exited, Failed, Ready, Replace, Started

MEMORY_WATCH_SECONDS: Final = 0.25
LEAST_SAMPLE_SECONDS: Final = 0.5
LONGEST_LAST_LINE: Final = 1000


class Phase(Enum):
    """Where a replica is between its start and its end."""

    STARTING = auto()
    READY = auto()
    CANCELLED = auto()  # stopped before it was ready
    DRAINING = auto()  # takes no call any more and responds to those it has
    STOPPED = auto()  # ended as it was asked to
    FAILED = auto()  # ended by itself after it was ready, or badly while it drained
    START_FAILED = auto()  # ended by itself before it was ready
    LOST = auto()  # ended with its zygote or intermediate process, before it was ready


class Trigger(Enum):
    """What takes a replica from one phase to the next."""

    BECAME_READY = auto()
    DRAIN = auto()
    REPLACE = auto()  # asked for by the replica
    EXITED = auto()  # with code 0
    BROKE = auto()  # any other end
    PARENT_DIED = auto()  # an end of which nothing but that is known
    GIVE_UP = auto()  # a lost start is not repeated


# What is not listed changes nothing.
TRANSITIONS: Final[Mapping[tuple[Phase, Trigger], Phase]] = {
    (Phase.STARTING, Trigger.BECAME_READY): Phase.READY,
    (Phase.STARTING, Trigger.DRAIN): Phase.CANCELLED,
    (Phase.STARTING, Trigger.EXITED): Phase.START_FAILED,
    (Phase.STARTING, Trigger.BROKE): Phase.START_FAILED,
    (Phase.STARTING, Trigger.PARENT_DIED): Phase.LOST,
    (Phase.READY, Trigger.DRAIN): Phase.DRAINING,
    (Phase.READY, Trigger.REPLACE): Phase.DRAINING,
    (Phase.READY, Trigger.EXITED): Phase.FAILED,
    (Phase.READY, Trigger.BROKE): Phase.FAILED,
    (Phase.READY, Trigger.PARENT_DIED): Phase.FAILED,
    (Phase.CANCELLED, Trigger.EXITED): Phase.STOPPED,
    (Phase.CANCELLED, Trigger.BROKE): Phase.STOPPED,
    (Phase.CANCELLED, Trigger.PARENT_DIED): Phase.STOPPED,
    (Phase.DRAINING, Trigger.EXITED): Phase.STOPPED,
    # Calls that broke off ask for a reason.
    (Phase.DRAINING, Trigger.BROKE): Phase.FAILED,
    (Phase.DRAINING, Trigger.PARENT_DIED): Phase.FAILED,
    (Phase.LOST, Trigger.DRAIN): Phase.STOPPED,
    (Phase.LOST, Trigger.GIVE_UP): Phase.START_FAILED,
}
# What the rest of the gateway is shown: a lost start is repeated, so it is still a start.
STATES: Final[Mapping[Phase, ReplicaState]] = {
    Phase.STARTING: ReplicaState.STARTING,
    Phase.READY: ReplicaState.READY,
    Phase.CANCELLED: ReplicaState.DRAINING,
    Phase.DRAINING: ReplicaState.DRAINING,
    Phase.STOPPED: ReplicaState.DRAINING,
    Phase.FAILED: ReplicaState.FAILED,
    Phase.START_FAILED: ReplicaState.FAILED,
    Phase.LOST: ReplicaState.STARTING,
}
ENDED: Final = frozenset({Phase.STOPPED, Phase.FAILED, Phase.START_FAILED, Phase.LOST})


class Origin(Enum):
    """What made the process of a replica."""

    NOTHING = auto()
    ZYGOTE = auto()
    COLD_INTERPRETER = auto()


class ReplicaProcess:
    """A process of a function. changed: called after each change of `state`.

    ready: settles when it is ready or has ended. left: when it takes no call any more, with the
    reason. gone: when nothing of it is left.
    """

    def __init__(
        self, spec: ReplicaSpec, context: LaunchContext, changed: Callable[[], None]
    ) -> None:
        self.id = f"{spec.deployment.id.name}-{token_hex(5)}"
        self.spec, self.phase, self.reason = spec, Phase.STARTING, ""
        self._context, self._changed = context, changed
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.left: asyncio.Future[str] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._handles: ReplicaHandles | None = None
        self._collector: Collector | None = None
        self._origin = Origin.NOTHING
        self._process, self._pidfd = 0, -1
        self._exit: int | None = None
        # Why it was killed, and what it or its intermediate process reported.
        self._killed_for = self._failure = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._sampled, self._cpu, self._millicores = loop.time(), 0.0, 0.0

    @property
    def state(self) -> ReplicaState:
        return STATES[self.phase]

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(self._handles.path if self._handles else "")

    def give_up(self) -> None:
        """Count a lost start as a failed one."""
        self._take(Trigger.GIVE_UP)
        self._changed()

    def view(self, restarts: int, before: str) -> Replica:
        """The replica as its function's status shows it. before: why its predecessor ended."""
        return Replica(self.id, self.address, self.state, restarts, self.reason or before)

    async def start(self) -> None:
        """Start it; returns once it is ready or has ended, see `phase`."""
        try:
            await self._launch()
            patience = self._context.settings.start_timeout
            await asyncio.wait([self.ready], timeout=patience)
            if not self.ready.done():
                self.kill(f"not ready within {patience:g} s")
                await asyncio.wait([self.ready])
        except (SluiceError, OSError) as error:
            self._end(str(error))
        except BaseException:
            # Cancelled, or a bug of the gateway: what it holds is given back either way.
            self.kill("stopped while it started")
            raise

    async def _launch(self) -> None:
        """Specialize a warm process, or one that is made now."""
        environment, zygotes = self.spec.environment, self._context.zygotes
        warm_process = zygotes.warm_process(environment, self.spec.shape)
        if warm_process is not None:
            self._origin = Origin.ZYGOTE
        self._handles = handles = await self._prepare(warm_process)
        handles.pipes.watch(self._on_status)
        handles.unspecialized.watch(self._on_supervision)
        self._collector = self._context.logs.collect(
            self.spec.deployment.id, self.id, handles.pipes.log
        )
        if warm_process is None:
            self._origin = Origin.ZYGOTE
            if cold := await zygotes.start(environment, handles.unspecialized):
                self._origin = Origin.COLD_INTERPRETER
                self._collector.note(f"sluice: cold start: {cold}")
        try:
            handles.pipes.specialize(handles.unspecialized.specialize)
        except OSError:
            self._end(self._why())  # the process that was to be specialized has ended

    async def _prepare(self, warm_process: UnspecializedProcess | None) -> ReplicaHandles:
        """Make what it holds of the machine, its process included."""
        preparing = asyncio.create_task(
            asyncio.to_thread(prepare, self._context, self.spec, self.id, warm_process)
        )
        try:
            return await asyncio.shield(preparing)
        except asyncio.CancelledError:
            # The thread goes on, and what it makes must be given back.
            self._handles = await preparing
            raise
        except BaseException:
            if warm_process is not None:
                await warm_process.discard()
            raise

    def drain(self) -> None:
        """Show that it takes no more calls; `terminate` follows once every listener knows."""
        self._take(Trigger.DRAIN)
        self._settle("")

    def terminate(self) -> None:
        """Have it respond to the calls it has and end, within the function's grace."""
        if not self._signal(signal.SIGTERM):
            return  # its start is being cancelled
        loop = asyncio.get_running_loop()
        late = f"did not end within {self.spec.grace:g} s of SIGTERM"
        timer = loop.call_later(self.spec.grace, self.kill, late)
        self.gone.add_done_callback(lambda _: timer.cancel())

    def kill(self, reason: str) -> None:
        """End it now. reason: shown as why it ended."""
        self._killed_for = self._killed_for or reason
        if not self._signal(signal.SIGKILL):
            # There is no process yet: one that is still made ends when its sockets are closed.
            self._end(reason or "stopped while it started")

    def usage(self) -> Usage:
        """What it uses now; CPU since the last sample."""
        if not self._process or self.left.done():
            return Usage(0.0, 0)
        self._sample_cpu()
        group = self._handles.unspecialized.group if self._handles else None
        memory = group.memory_bytes() if group else None
        used = processes.private_bytes(self._process) if memory is None else memory
        return Usage(self._millicores, used)

    def _sample_cpu(self) -> None:
        now, cpu = asyncio.get_running_loop().time(), processes.cpu_seconds(self._process)
        elapsed = now - self._sampled
        if elapsed >= LEAST_SAMPLE_SECONDS:
            self._millicores = max(0.0, (cpu - self._cpu) / elapsed * 1000)
            self._sampled, self._cpu = now, cpu

    def _take(self, trigger: Trigger) -> bool:
        """Enter the phase that `trigger` leads to; whether that is another one."""
        phase = TRANSITIONS.get((self.phase, trigger), self.phase)
        entered, self.phase = phase is not self.phase, phase
        return entered

    def _on_status(self, event: Event) -> None:
        match event:
            case Ready() if self._take(Trigger.BECAME_READY):
                self._watch_over()
                self.ready.set_result(None)
                self._changed()
                self._context.zygotes.started(self.spec.environment, self.spec.shape)
            case Failed(reason):
                self._failure = reason
            case Replace(reason) if self._take(Trigger.REPLACE):
                self.reason = reason
                self._settle(reason)
                self._changed()
                self.terminate()
            case _:
                pass  # a function can write any event at any time

    def _on_supervision(self, event: Event | None, descriptor: int) -> None:
        match event:
            case Started(pid):
                self._process, self._pidfd = pid, descriptor
                if self._killed_for:
                    self._signal(signal.SIGKILL)
            case Failed(reason):
                self._failure = reason
            case Exited(status):
                self._exit = os.waitstatus_to_exitcode(status)
                self._end(self._why())
            case None:
                self._end(self._why())
            case _:
                raise ValueError(f"no event of an intermediate process: {event}")

    def _why(self) -> str:
        """Why the process ended: the most specific reason that is known."""
        if self._handles is not None:
            self._handles.pipes.read_status(self._on_status)
            group = self._handles.unspecialized.group
            if self._exit != 0 and group is not None and group.out_of_memory():
                return exit_reasons.over_memory(self.spec.deployment, group.peak_bytes() or 0)
        if named := self._killed_for or self._failure:
            return named
        if self._exit is None:
            return self._why_lost()
        return exit_reasons.of_exit(self._exit, self._last_words() if self._exit > 0 else "")

    def _why_lost(self) -> str:
        if self._origin is Origin.COLD_INTERPRETER and not self._process:
            words = self._context.zygotes.last_words(self.spec.environment)
            return exit_reasons.of_interpreter(self.spec.deployment, words)
        return "the process that supervises it was killed"

    def _last_words(self) -> str:
        """The last line of its log, cut to LONGEST_LAST_LINE."""
        if self._collector is None:
            return ""
        self._collector.take()
        return self._collector.last_line.decode("utf-8", "replace").strip()[:LONGEST_LAST_LINE]

    def _end(self, reason: str) -> None:
        """Record that the process has ended, or never existed, and give everything back."""
        if self.phase in ENDED:
            return
        self._take(self._ending())
        if self.phase is not Phase.STOPPED:
            self.reason = reason
        for task in self._tasks:
            task.cancel()
        self._tasks = [asyncio.create_task(self._give_back())]
        self._settle(reason)
        self._changed()

    def _ending(self) -> Trigger:
        """What kind of end it was."""
        if self._exit is not None:
            return Trigger.EXITED if self._exit == 0 else Trigger.BROKE
        named = self._killed_for or self._failure
        forked = self._handles is not None and self._origin is not Origin.COLD_INTERPRETER
        return Trigger.PARENT_DIED if forked and not named else Trigger.BROKE

    def _settle(self, reason: str) -> None:
        if not self.ready.done():
            self.ready.set_result(None)
        if not self.left.done():
            self.left.set_result(reason)

    async def _give_back(self) -> None:
        if self._collector is not None:
            self._collector.close()
        elif self._handles is not None:
            os.close(self._handles.pipes.log)
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        if self._handles is not None:
            self._handles.pipes.close()
            await self._handles.unspecialized.end()
            await asyncio.to_thread(remove, self._handles)
        if self._origin is not Origin.NOTHING:
            self._context.zygotes.release(self.spec.environment)
        self.gone.set_result(None)

    def _signal(self, number: int) -> bool:
        if self._pidfd < 0 or self.gone.done():
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)
        return True

    def _watch_over(self) -> None:
        self._tasks.append(asyncio.create_task(self._check_health()))
        group = self._handles.unspecialized.group if self._handles else None
        limit = self.spec.shape.limits.memory
        if limit is not None and (group is None or group.memory_bytes() is None):
            self._tasks.append(asyncio.create_task(self._check_memory(limit)))

    async def _check_health(self) -> None:
        settings = self._context.settings
        while self.phase is Phase.READY:
            await asyncio.sleep(settings.health_interval)
            self._sample_cpu()
            alive = await responds(self.address.path, settings.health_timeout)
            if not alive and self.phase is Phase.READY:
                self.kill(f"did not answer /_/health within {settings.health_timeout:g} s")
                return

    async def _check_memory(self, limit: int) -> None:
        while True:
            await asyncio.sleep(MEMORY_WATCH_SECONDS)
            used = await asyncio.to_thread(processes.private_above, self._process, limit)
            if used is not None:
                self.kill(exit_reasons.over_memory(self.spec.deployment, used))
                return
