"""Brings one function to its desired state: generations, replica count, updates, reasons."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from gateway.providers.embedded.launch import LaunchContext, ReplicaSpec
from gateway.providers.embedded.records import FunctionRecord, Generation
from gateway.providers.embedded.replica import ReplicaProcess
from gateway.providers.embedded.replica_worker import ReplicaWorker
from gateway.types.errors import SluiceError
from gateway.types.function import FunctionStatus, Usage
from gateway.types.ids import FunctionId

KILLED_WITHIN: Final = 10.0  # seconds; a process in the kernel's hands may take longer


@dataclass(frozen=True, slots=True)
class Reports:
    """Callbacks. changed: on every change. serving: on a generation's first ready replica."""

    changed: Callable[[FunctionStatus], None]
    serving: Callable[[FunctionId, Generation], None]


class FunctionReconciler:
    """One function. plan: makes the spec of a generation's replicas; may raise SluiceError.

    A generation is planned once, for its first replica: neither its deployment nor its bundle ever
    changes. That keeps parsing and a database read out of a call's wait for a replica.
    """

    def __init__(
        self,
        record: FunctionRecord,
        context: LaunchContext,
        plan: Callable[[Generation], ReplicaSpec],
        reports: Reports,
    ) -> None:
        self.record = record
        self._context, self._plan, self._reports = context, plan, reports
        self._specs: dict[int, ReplicaSpec] = {}
        self._workers: list[ReplicaWorker] = []
        self._leaving: set[ReplicaProcess] = set()
        # The generation whose update failed, and why; its predecessor keeps serving.
        self._failed, self._failure = 0, ""
        self._start_failure = ""
        self._closed = False

    @property
    def status(self) -> FunctionStatus:
        views = [view for worker in self._workers if (view := worker.view())]
        leaving = [process.view(0, "") for process in self._leaving]
        record = self.record
        deployment = record.target.deployment
        running = tuple(views + leaving)
        return FunctionStatus(
            deployment, record.replicas, running, record.created_at, self._reason()
        )

    def run(self) -> None:
        """Reconcile once: retire what is surplus, start what is missing, report the status."""
        if self._closed:
            return
        self._retire_surplus()
        for generation, count in self._wanted():
            missing = count - len(self._of(generation))
            if missing > 0 and not self._add(generation, missing):
                return
        self._report()

    def deploy(self, target: Generation, replicas: int) -> None:
        """Run another generation; for the same one, forget its failures and try again now."""
        same = target.number == self.record.target.number
        self.record = replace(self.record, target=target, replicas=replicas)
        self._failed, self._failure, self._start_failure = 0, "", ""
        self._specs.clear()
        for worker in self._workers if same else ():
            worker.hurry()
        self.run()

    def scale(self, replicas: int) -> None:
        """Run another number of replicas."""
        self.record = replace(self.record, replicas=replicas)
        self.run()

    def usage(self) -> Usage:
        """What all replicas use now."""
        used = [process.usage() for process in self._processes()]
        return Usage(
            sum(each.cpu_millicores for each in used), sum(each.memory_bytes for each in used)
        )

    def replicas(self) -> set[str]:
        """Ids of the replicas that exist, leaving ones included."""
        return {process.id for process in self._processes()}

    def secrets(self) -> set[str]:
        """Names of the secrets that its generations see."""
        return {name for each in self._generations() for name in each.deployment.secrets}

    def digests(self) -> set[str]:
        """Bundles of its generations."""
        return {each.digest for each in self._generations() if each.digest}

    async def close(
        self, removed: Callable[[], None] | None = None, patience: float | None = None
    ) -> None:
        """Drain every replica and wait for its end.

        removed: called once none takes a call any more, before the first is terminated. patience:
        seconds after which they are killed, at most their own grace.
        """
        self._closed = True
        workers, self._workers = self._workers, []
        leaving = self._leave(workers)
        if removed is not None:
            removed()
        for process in leaving:
            process.terminate()
        await asyncio.gather(*(worker.wait() for worker in workers))
        ends = [process.gone for process in self._leaving]
        if ends:
            await asyncio.wait(ends, timeout=patience)
        for process in self._leaving:
            if not process.gone.done():
                process.kill("the gateway stopped")
        if ends:
            await asyncio.wait(ends, timeout=KILLED_WITHIN)

    def worker_changed(self, worker: ReplicaWorker) -> None:
        """The worker's replica has another state."""
        if self._closed:
            return
        if worker.ready and worker in self._workers:
            self._start_failure = ""
            self._promote(worker)
        self._report()

    def worker_failed(self, worker: ReplicaWorker, reason: str) -> None:
        """The worker's replica ended by itself before it was ready."""
        if worker not in self._workers:
            return
        self._start_failure = reason
        self._specs.pop(worker.number, None)  # its bundle may be gone
        if self._updating and worker.number == self.record.target.number:
            self._give_up(self.record.target, reason)
        else:
            self._report()

    def replica_leaves(self, process: ReplicaProcess) -> None:
        """The worker is about to replace a replica that may not have ended yet."""
        self._track(process)

    @property
    def _updating(self) -> bool:
        """Whether an older generation serves until the target is ready."""
        return self._outlived and not self._gave_up

    @property
    def _outlived(self) -> bool:
        """Whether a generation older than the target serves."""
        serving = self.record.serving
        return serving is not None and serving.number != self.record.target.number

    @property
    def _gave_up(self) -> bool:
        return self._failed == self.record.target.number

    def _wanted(self) -> list[tuple[Generation, int]]:
        """Which generations must run, and how many replicas of each."""
        record = self.record
        if record.serving is None or not self._outlived:
            return [] if self._gave_up else [(record.target, record.replicas)]
        if self._gave_up:
            return [(record.serving, record.replicas)]
        # Even at zero one is started: a failing update must show before a call needs it.
        return [(record.serving, record.replicas), (record.target, max(record.replicas, 1))]

    def _add(self, generation: Generation, count: int) -> bool:
        """Start replicas; False when the generation cannot run at all, which is then given up."""
        try:
            spec = self._specs.get(generation.number)
            if spec is None:
                spec = self._specs[generation.number] = self._plan(generation)
        except SluiceError as error:
            self._give_up(generation, str(error))
            return False
        self._workers += [
            ReplicaWorker(generation.number, spec, self._context, self) for _ in range(count)
        ]
        return True

    def _promote(self, worker: ReplicaWorker) -> None:
        """Let the target serve once as many of its replicas are ready as are desired."""
        record, target = self.record, self.record.target
        known = record.serving is not None and record.serving.number == target.number
        if worker.number != target.number or known:
            return
        ready = sum(each.ready for each in self._of(target))
        if self._updating and ready < max(record.replicas, 1):
            return
        self.record = replace(record, serving=target)
        self._specs = {target.number: worker.spec}
        self._reports.serving(record.id, target)
        self._retire_surplus()

    def _give_up(self, generation: Generation, reason: str) -> None:
        """Stop trying to run a generation; the one that serves keeps serving."""
        if generation.number != self.record.target.number:
            # The serving generation cannot run any more: only the target is left.
            self.record = replace(self.record, serving=None)
        else:
            self._failed = generation.number
            self._failure = f"update failed: {reason}" if self._outlived else reason
        self.run()

    def _retire_surplus(self) -> None:
        """Report replicas that are no longer wanted as draining, then terminate them."""
        wanted = {generation.number: count for generation, count in self._wanted()}
        surplus: list[ReplicaWorker] = []
        for number in {worker.number for worker in self._workers}:
            # Ready ones stay longest, and of those the oldest.
            workers = sorted(self._of_number(number), key=lambda worker: not worker.ready)
            surplus += workers[wanted.get(number, 0) :]
        if not surplus:
            return
        self._workers = [worker for worker in self._workers if worker not in surplus]
        leaving = self._leave(surplus)
        self._report()
        for process in leaving:
            process.terminate()

    def _leave(self, workers: Sequence[ReplicaWorker]) -> list[ReplicaProcess]:
        leaving = [process for worker in workers if (process := worker.retire())]
        for process in leaving:
            self._track(process)
        return leaving

    def _track(self, process: ReplicaProcess) -> None:
        """Keep a leaving replica in the status until it is gone."""
        if process.gone.done():
            return
        self._leaving.add(process)
        process.gone.add_done_callback(lambda _: self._is_gone(process))

    def _is_gone(self, process: ReplicaProcess) -> None:
        self._leaving.discard(process)
        if not self._closed:
            self._report()

    def _reason(self) -> str:
        if self._failure:
            return self._failure
        return "" if any(worker.ready for worker in self._workers) else self._start_failure

    def _generations(self) -> list[Generation]:
        return [each for each in (self.record.target, self.record.serving) if each]

    def _processes(self) -> list[ReplicaProcess]:
        return [*(worker.process for worker in self._workers if worker.process), *self._leaving]

    def _of(self, generation: Generation) -> list[ReplicaWorker]:
        return self._of_number(generation.number)

    def _of_number(self, number: int) -> list[ReplicaWorker]:
        return [worker for worker in self._workers if worker.number == number]

    def _report(self) -> None:
        self._reports.changed(self.status)
