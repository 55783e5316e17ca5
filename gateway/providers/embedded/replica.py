"""One replica: from its start to the reason it ended for."""

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from secrets import token_hex
from typing import Final

from gateway.providers.embedded import exit_reasons, processes
from gateway.providers.embedded.health import answers
from gateway.providers.embedded.launch import (
    LaunchContext,
    ReplicaHandles,
    ReplicaSpec,
    prepare,
    remove,
    shape_of,
)
from gateway.providers.embedded.logs import Collector
from gateway.providers.embedded.pipes import LONGEST_REASON, Event, reason_of
from gateway.providers.embedded.unspecialized import UnspecializedProcess
from gateway.types.errors import SluiceError
from gateway.types.function import Replica, ReplicaState, UnixAddress, Usage

MEMORY_WATCH_SECONDS: Final = 0.25
LEAST_SAMPLE_SECONDS: Final = 0.5


class ReplicaProcess:
    """A process of a function. changed: called when `state` has.

    ready: settles when it is ready or has ended. left: when it takes no call any more, with the
    reason. gone: when nothing of it is left.
    """

    def __init__(
        self, spec: ReplicaSpec, context: LaunchContext, changed: Callable[[], None]
    ) -> None:
        self.id = f"{spec.deployment.id.name}-{token_hex(5)}"
        self.spec, self.state, self.reason = spec, ReplicaState.STARTING, ""
        self.was_ready = False
        self._context, self._changed = context, changed
        loop = asyncio.get_running_loop()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.left: asyncio.Future[str] = loop.create_future()
        self.gone: asyncio.Future[None] = loop.create_future()
        self._handles: ReplicaHandles | None = None
        self._collector: Collector | None = None
        self._process, self._watched, self._holds_zygote, self._cold = 0, -1, False, False
        self._exit: int | None = None
        self._finished = False
        self._killed_for = self._notify = ""
        self._tasks: list[asyncio.Task[None]] = []
        self._sampled, self._cpu, self._millicores = loop.time(), 0.0, 0.0

    @property
    def address(self) -> UnixAddress:
        return UnixAddress(self._handles.path if self._handles else "")

    @property
    def lost(self) -> bool:
        """Whether it ended before anything of the function ran, with the process above it."""
        return self._finished and self.state is ReplicaState.STARTING

    def fail(self) -> None:
        """Take the loss for a failure."""
        self.state = ReplicaState.FAILED
        self._changed()

    def view(self, restarts: int, before: str) -> Replica:
        """What the activator is told. before: why its predecessor ended."""
        return Replica(self.id, self.address, self.state, restarts, self.reason or before)

    async def start(self) -> None:
        """Start it; returns once it is ready or has ended, which `state` tells."""
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
            # Cancelled, or a fault of ours: what it holds is given back either way.
            self.kill("stopped while it started")
            raise

    async def _launch(self) -> None:
        """Order a blank to become this replica."""
        environment = self.spec.environment
        warm_process = self._context.zygotes.warm_process(
            environment, shape_of(self._context, self.spec)
        )
        self._holds_zygote = warm_process is not None
        self._handles = handles = await self._prepare(warm_process)
        handles.pipes.watch(self._on_status)
        handles.unspecialized.watch(self._on_supervision)
        self._collector = self._context.logs.collect(
            self.spec.deployment.id, self.id, handles.pipes.log
        )
        if warm_process is None:
            self._holds_zygote = True
            if cold := await self._context.zygotes.start(environment, handles.unspecialized):
                self._cold = True
                self._collector.note(f"sluice: cold start: {cold}")
        try:
            handles.unspecialized.specialize(handles.pipes.theirs)
        except OSError:
            self._end(self._why())  # what was to take the order has ended
        handles.pipes.close_theirs()

    async def _prepare(self, warm_process: UnspecializedProcess | None) -> ReplicaHandles:
        """What it holds of the machine, its blank included."""
        preparing = asyncio.create_task(
            asyncio.to_thread(prepare, self._context, self.spec, self.id, warm_process)
        )
        try:
            return await asyncio.shield(preparing)
        except asyncio.CancelledError:
            # The thread goes on: what it makes is to be given back.
            self._handles = await preparing
            raise
        except BaseException:
            if warm_process is not None:
                await warm_process.discard()
            raise

    def drain(self) -> None:
        """Say that it takes no more calls; `terminate` follows once everybody knows."""
        if self.state is not ReplicaState.FAILED:
            self.state = ReplicaState.DRAINING
        self._settle("")

    def terminate(self) -> None:
        """Have it answer the calls it has and end, within the function's grace."""
        if not self._signal(signal.SIGTERM):
            return  # its start is being cancelled
        loop = asyncio.get_running_loop()
        late = f"did not end within {self.spec.grace:g} s of SIGTERM"
        timer = loop.call_later(self.spec.grace, self.kill, late)
        self.gone.add_done_callback(lambda _: timer.cancel())

    def kill(self, reason: str) -> None:
        """End it now. reason: told as why it ended."""
        self._killed_for = self._killed_for or reason
        if not self._signal(signal.SIGKILL):
            # Without a process yet: what becomes one ends when its sockets are closed.
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

    def _on_status(self, event: Event) -> None:
        kind = event.get("event")
        if kind == "ready" and self.state is ReplicaState.STARTING:
            self.state, self.was_ready = ReplicaState.READY, True
            self._watch_over()
            self.ready.set_result(None)
            self._changed()
            self._context.zygotes.started(self.spec.environment, shape_of(self._context, self.spec))
        elif kind == "failed":
            self._notify = reason_of(event)
        elif kind == "replace" and self.state is ReplicaState.READY:
            self.state, self.reason = ReplicaState.DRAINING, reason_of(event)
            self._settle(self.reason)
            self._changed()
            self.terminate()

    def _on_supervision(self, event: Event, descriptor: int) -> None:
        kind = event.get("event")
        if kind == "started":
            self._process, self._watched = int(event["pid"]), descriptor
            if self._killed_for:
                self._signal(signal.SIGKILL)
        elif kind == "failed":
            self._notify = reason_of(event)
        elif kind == "exited":
            self._exit = os.waitstatus_to_exitcode(int(event["status"]))
            self._end(self._why())
        elif not event:
            self._end(self._why())

    def _why(self) -> str:
        """Why the process ended, the most telling reason first."""
        if self._handles is not None:
            self._handles.pipes.read_status()
            group = self._handles.unspecialized.group
            if self._exit != 0 and group is not None and group.out_of_memory():
                return exit_reasons.over_memory(self.spec.deployment, group.peak_bytes() or 0)
        if self._killed_for or self._notify:
            return self._killed_for or self._notify
        if self._exit is None:
            return self._why_lost()
        return exit_reasons.of_exit(self._exit, self._last_words() if self._exit > 0 else "")

    def _why_lost(self) -> str:
        if self._cold and not self._process:
            words = self._context.zygotes.last_words(self.spec.environment)
            return exit_reasons.of_interpreter(self.spec.deployment, words)
        return "the process that supervises it was killed"

    def _last_words(self) -> str:
        """The last line that it wrote, within bounds."""
        if self._collector is None:
            return ""
        self._collector.take()
        return self._collector.last_line.decode("utf-8", "replace").strip()[:LONGEST_REASON]

    def _end(self, reason: str) -> None:
        """The process has ended, or never was: tell it and give everything back."""
        if self._finished:
            return
        self._finished = True
        if self._is_lost():
            self.reason = reason
        # One that ended as it was told to has not failed; calls that broke off ask for a reason.
        elif self.state is not ReplicaState.DRAINING or (self.was_ready and self._exit != 0):
            self.state, self.reason = ReplicaState.FAILED, reason
        for task in self._tasks:
            task.cancel()
        self._tasks = [asyncio.create_task(self._give_back())]
        self._settle(reason)
        self._changed()

    def _is_lost(self) -> bool:
        """Whether the zygote or the intermediate is to blame, and nobody saw it ready."""
        notify = self._killed_for or self._notify
        specialized = self._handles is not None and self._exit is None and not self._cold
        return specialized and self.state is ReplicaState.STARTING and not notify

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
        if self._watched >= 0:
            os.close(self._watched)
            self._watched = -1
        if self._handles is not None:
            self._handles.pipes.close()
            if self._handles.unspecialized.specialized:
                self._handles.unspecialized.close()
            else:
                await (
                    self._handles.unspecialized.end()
                )  # its control group cannot be removed before
            await asyncio.to_thread(remove, self._handles)
        if self._holds_zygote:
            self._context.zygotes.release(self.spec.environment)
        self.gone.set_result(None)

    def _signal(self, number: int) -> bool:
        if self._watched < 0 or self.gone.done():
            return False
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._watched, number)
        return True

    def _watch_over(self) -> None:
        self._tasks.append(asyncio.create_task(self._check_health()))
        group = self._handles.unspecialized.group if self._handles else None
        limit = self.spec.limits.memory
        if limit is not None and (group is None or group.memory_bytes() is None):
            self._tasks.append(asyncio.create_task(self._check_memory(limit)))

    async def _check_health(self) -> None:
        settings = self._context.settings
        while self.state is ReplicaState.READY:
            await asyncio.sleep(settings.health_interval)
            self._sample_cpu()
            alive = await answers(self.address.path, settings.health_timeout)
            if not alive and self.state is ReplicaState.READY:
                self.kill(f"did not answer /_/health within {settings.health_timeout:g} s")
                return

    async def _check_memory(self, limit: int) -> None:
        while True:
            await asyncio.sleep(MEMORY_WATCH_SECONDS)
            used = await asyncio.to_thread(processes.private_above, self._process, limit)
            if used is not None:
                self.kill(exit_reasons.over_memory(self.spec.deployment, used))
                return
