"""The embedded provider: keeps what was deployed and has one runner for each function."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.building.bundles import Bundles
from gateway.providers import Listener
from gateway.providers.embedded import scratch
from gateway.providers.embedded.composition import assemble
from gateway.providers.embedded.function_reconciler import Reports, Runner
from gateway.providers.embedded.names import check_label
from gateway.providers.embedded.paths import Places
from gateway.providers.embedded.planning import Planner
from gateway.providers.embedded.records import FunctionRecord, Generation
from gateway.providers.embedded.store import Store
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError, NotFoundError
from gateway.types.function import (
    DEFAULT_NAMESPACE,
    FunctionDeployment,
    FunctionEvent,
    FunctionId,
    FunctionRemoved,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    Usage,
)

LOG: Final = logging.getLogger(__name__)
PRUNE_SECONDS: Final = 300.0
TRIM_SECONDS: Final = 10.0
DELETE_SECONDS: Final = 2.0  # a removal answers by then; what drains longer ends by itself


class EmbeddedProvider:
    """Functions as processes of this machine. Implements gateway.providers.Provider."""

    def __init__(
        self, settings: GatewaySettings, bundles: Bundles, environ: Mapping[str, str] | None = None
    ) -> None:
        """environ: the gateway's own environment, the process's unless told."""
        self._settings, self._bundles = settings, bundles
        self._environ = dict(os.environ if environ is None else environ)
        self._places = Places(settings.data_dir)
        self._store = Store(settings.data_dir / "functions.sqlite")
        self._runners: dict[FunctionId, Runner] = {}
        self._ending: set[Runner] = set()
        self._locks: dict[FunctionId, asyncio.Lock] = {}
        self._changes: Counter[FunctionId] = Counter()
        self._namespaces: dict[str, Namespace] = {}
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._upkeep: list[asyncio.Task[None]] = []
        self.isolation = "none: not started"

    async def start(self) -> None:
        """Bring back what was deployed; must run in the main thread.

        Raises UnavailableError when another gateway has the data folder.
        """
        await asyncio.to_thread(self._places.open)
        await self._store.open()
        self._host, self.isolation = await assemble(self._settings, self._places, self._environ)
        self._planner = Planner(self._bundles, self._host)
        self._namespaces = {each.name: each for each in await self._store.namespaces()}
        for record in await self._store.functions():
            self._add_runner(record).run()
        loops = (self._prune_forever(), self._trim_forever())
        self._upkeep = [asyncio.create_task(each) for each in loops]
        level = logging.INFO if self._host.isolated else logging.WARNING
        LOG.log(level, "started: functions=%d isolation=%s", len(self._runners), self.isolation)

    async def deploy(self, deployment: FunctionDeployment) -> None:
        if deployment.id.namespace not in self._namespaces:
            raise InvalidRequestError(f"namespace {deployment.id.namespace[:80]!r} does not exist")
        async with self._changing(deployment.id):
            digest, least = await asyncio.to_thread(self._planner.check, deployment)
            if ignored := self._planner.limits_not_enforced(deployment):
                LOG.warning("limit not enforced: function=%s limit=%s", deployment.id, ignored)
            runner = self._runners.get(deployment.id)
            if runner is None:
                target = Generation(1, deployment, digest)
                record = FunctionRecord(deployment.id, least, datetime.now(UTC), target)
                await self._store.put_function(record)
                self._add_runner(record).run()
                return
            old = runner.record
            same = (old.target.deployment, old.target.digest) == (deployment, digest)
            target = old.target if same else Generation(old.target.number + 1, deployment, digest)
            replicas = max(old.replicas, least)
            await self._store.put_function(replace(old, target=target, replicas=replicas))
            runner.deploy(target, replicas)

    async def delete(self, function: FunctionId) -> None:
        async with self._changing(function):
            runner = self._runner(function)
            await self._store.delete_function(function)
            del self._runners[function]
        # Calls under way may take their exec_timeout, which is longer than clients wait.
        await asyncio.wait([self._spawn(self._end(function, runner))], timeout=DELETE_SECONDS)

    async def scale(self, function: FunctionId, replicas: int) -> None:
        if not 0 <= replicas <= self._settings.replica_limit:
            raise InvalidRequestError(
                f"replicas: expected 0 to {self._settings.replica_limit}, got {replicas}"
            )
        async with self._changing(function):
            runner = self._runner(function)
            if runner.record.replicas == 0:
                await self._wake(runner, replicas)
                return
            await self._store.set_replicas(function, replicas)
            runner.scale(replicas)

    async def _wake(self, runner: Runner, replicas: int) -> None:
        """Start while the disk takes the count, for 2 ms less of waiting; not known to have
        happened before it has.
        """
        runner.scale(replicas)
        try:
            await self._store.set_replicas(runner.record.id, replicas)
        except BaseException:
            runner.scale(0)
            raise

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        found = [each.status for each in self._runners.values()]
        return sorted(
            (status for status in found if status.id.namespace == namespace),
            key=lambda status: status.id,
        )

    async def status(self, function: FunctionId) -> FunctionStatus:
        return self._runner(function).status

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        for runner in self._runners.values():
            listener(runner.status)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        return self._read_logs(query)

    async def usage(self, function: FunctionId) -> Usage:
        return self._runner(function).usage()

    async def namespaces(self) -> Sequence[Namespace]:
        return sorted(self._namespaces.values(), key=lambda each: each.name)

    async def put_namespace(self, namespace: Namespace) -> None:
        check_label("namespace", namespace.name)
        await self._store.put_namespace(namespace)
        self._namespaces[namespace.name] = namespace

    async def delete_namespace(self, name: str) -> None:
        if name not in self._namespaces:
            raise NotFoundError(f"namespace {name[:80]} not found")
        if name == DEFAULT_NAMESPACE:
            raise InvalidRequestError(f"namespace {name}: the default one cannot be removed")
        used = sum(function.namespace == name for function in self._runners)
        if used:
            raise InvalidRequestError(f"namespace {name}: expected no functions, it has {used}")
        del self._namespaces[name]
        await self._store.delete_namespace(name)
        await asyncio.to_thread(self._host.secrets.delete_namespace, name)

    async def secrets(self, namespace: str) -> Sequence[str]:
        return await asyncio.to_thread(self._host.secrets.names, namespace)

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Create or replace a secret; running functions see the new value at once."""
        if namespace not in self._namespaces:
            raise InvalidRequestError(f"namespace {namespace[:80]!r} does not exist")
        await asyncio.to_thread(self._host.secrets.put, namespace, name, value)
        for function, runner in list(self._runners.items()):
            names = runner.secrets()
            if function.namespace == namespace and name in names:
                await asyncio.to_thread(self._host.secrets.refresh, function, name)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Remove a secret; a running replica keeps what it has seen."""
        await asyncio.to_thread(self._host.secrets.delete, namespace, name)

    async def close(self) -> None:
        if self._upkeep:
            for task in self._upkeep:
                task.cancel()
            await asyncio.wait(self._upkeep)
            await self._end_replicas()
        await self._store.close()
        await asyncio.to_thread(self._places.close)

    async def _end_replicas(self) -> None:
        runners = [*self._runners.values(), *self._ending]
        grace = self._settings.drain_timeout
        await asyncio.gather(*(runner.close(_nothing, grace) for runner in runners))
        await asyncio.gather(*self._tasks)
        await self._host.zygotes.close()
        if self._host.groups is not None:
            await asyncio.to_thread(self._host.groups.close)

    def digests_in_use(self) -> frozenset[str]:
        """Bundles that deployed functions stand on: a prune keeps them."""
        return frozenset(digest for each in self._runners.values() for digest in each.digests())

    def zygote_processes(self) -> Sequence[int]:
        """Process ids of the zygotes that live."""
        return self._host.zygotes.processes()

    def _add_runner(self, record: FunctionRecord) -> Runner:
        reports = Reports(self._tell, self._is_serving)
        runner = Runner(record, self._host, self._planner.plan, reports)
        self._runners[record.id] = runner
        return runner

    def _runner(self, function: FunctionId) -> Runner:
        try:
            return self._runners[function]
        except KeyError:
            raise NotFoundError(f"function {str(function)[:160]} not found") from None

    @asynccontextmanager
    async def _changing(self, function: FunctionId) -> AsyncIterator[None]:
        """One change of a function at a time, in the order in which they came."""
        lock = self._locks.setdefault(function, asyncio.Lock())
        self._changes[function] += 1
        try:
            async with lock:
                yield
        finally:
            self._changes[function] -= 1
            if not self._changes[function]:
                del self._changes[function], self._locks[function]

    def _tell(self, event: FunctionEvent) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _is_serving(self, function: FunctionId, generation: Generation) -> None:
        self._spawn(self._store.set_serving(function, generation.number))

    async def _end(self, function: FunctionId, runner: Runner) -> None:
        """Let the calls of a removed function end, then clear away what it kept."""
        self._ending.add(runner)
        try:
            await runner.close(lambda: self._tell(FunctionRemoved(function)))
        finally:
            self._ending.discard(runner)
        if function not in self._runners:
            await asyncio.to_thread(self._host.secrets.hide, function)
            await asyncio.to_thread(self._host.places.remove_cache, function)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read_logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self._runner(query.id)
        async for line in self._host.logs.read(query):
            yield line

    async def _prune_forever(self) -> None:
        while True:
            in_use = {name for each in self._runners.values() for name in each.replicas()}
            freed = await self._host.logs.prune(frozenset(in_use))
            if freed:
                LOG.info("logs pruned: bytes=%d", freed)
            await asyncio.sleep(PRUNE_SECONDS)

    async def _trim_forever(self) -> None:
        """Keep the caches of functions that run within their size."""
        while True:
            for function, runner in list(self._runners.items()):
                if runner.replicas():
                    await self._trim(function)
            await asyncio.sleep(TRIM_SECONDS)

    async def _trim(self, function: FunctionId) -> None:
        folder, most = self._places.cache(function), self._settings.cache_bytes
        if removed := await asyncio.to_thread(scratch.trim, folder, most):
            LOG.warning("cache over its size: function=%s removed_bytes=%d", function, removed)


def _nothing() -> None:
    """For functions that stop but stay deployed, there is nobody to tell."""
