"""The embedded provider: stores deployments and has one reconciler for each function."""

import asyncio
import logging
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from gateway.providers import Listener, Pruned
from gateway.providers.embedded import scratch
from gateway.providers.embedded.bundle_target import BundleTarget
from gateway.providers.embedded.bundles import Bundles
from gateway.providers.embedded.composition import assemble
from gateway.providers.embedded.function_reconciler import FunctionReconciler, Reports
from gateway.providers.embedded.names import check_label
from gateway.providers.embedded.paths import Paths
from gateway.providers.embedded.planning import Planner
from gateway.providers.embedded.records import FunctionRecord, Generation
from gateway.providers.embedded.store import Store
from gateway.settings import GatewaySettings
from gateway.types.errors import InvalidRequestError, NotFoundError
from gateway.types.function import (
    FunctionDeployment,
    FunctionEvent,
    FunctionRemoved,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    Usage,
)
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId

LOG: Final = logging.getLogger(__name__)
PRUNE_SECONDS: Final = 300.0
TRIM_SECONDS: Final = 10.0
DELETE_SECONDS: Final = 2.0  # a removal returns by then; a longer drain goes on after it


class EmbeddedProvider:
    """Functions as processes of this machine. Implements gateway.providers.Provider."""

    name: Final = "sluice-embedded"
    orchestration: Final = "embedded"

    def __init__(
        self, settings: GatewaySettings, bundles: Bundles, environ: Mapping[str, str] | None = None
    ) -> None:
        """bundles: closed with the provider. environ: the gateway's, by default the process's."""
        self._settings, self._bundles = settings, bundles
        self._environ = dict(os.environ if environ is None else environ)
        self._paths = Paths(settings.data_dir)
        self._store = Store(settings.data_dir / "functions.sqlite")
        self._reconcilers: dict[FunctionId, FunctionReconciler] = {}
        self._ending: set[FunctionReconciler] = set()
        self._locks: dict[FunctionId, asyncio.Lock] = {}
        self._changes: Counter[FunctionId] = Counter()
        self._namespaces: dict[str, Namespace] = {}
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._upkeep: list[asyncio.Task[None]] = []
        self._started = False
        self.isolation = "none: not started"
        self.target = BundleTarget(bundles, self._environ)

    async def start(self) -> None:
        """Bring back what was deployed; must run in the main thread.

        Raises UnavailableError when another gateway has the data folder.
        """
        await asyncio.to_thread(self._paths.open)
        await self._store.open()
        self._context, self.isolation = await assemble(self._settings, self._paths, self._environ)
        self._planner = Planner(self._bundles, self._context)
        self._namespaces = {each.name: each for each in await self._store.namespaces()}
        for record in await self._store.functions():
            self._add_reconciler(record).run()
        loops = (self._prune_forever(), self._trim_forever())
        self._upkeep = [asyncio.create_task(each) for each in loops]
        self._started = True
        level = logging.INFO if self._context.isolated else logging.WARNING
        LOG.log(level, "started: functions=%d isolation=%s", len(self._reconcilers), self.isolation)

    async def deploy(self, deployment: FunctionDeployment) -> None:
        if deployment.id.namespace not in self._namespaces:
            raise InvalidRequestError(f"namespace {deployment.id.namespace[:80]!r} does not exist")
        async with self._changing(deployment.id):
            digest, least = await asyncio.to_thread(self._planner.check, deployment)
            if ignored := self._planner.limits_not_enforced(deployment):
                LOG.warning("limit not enforced: function=%s limit=%s", deployment.id, ignored)
            reconciler = self._reconcilers.get(deployment.id)
            if reconciler is None:
                target = Generation(1, deployment, digest)
                record = FunctionRecord(deployment.id, least, datetime.now(UTC), target)
                await self._store.put_function(record)
                self._add_reconciler(record).run()
                return
            old = reconciler.record
            same = (old.target.deployment, old.target.digest) == (deployment, digest)
            target = old.target if same else Generation(old.target.number + 1, deployment, digest)
            replicas = max(old.replicas, least)
            await self._store.put_function(replace(old, target=target, replicas=replicas))
            reconciler.deploy(target, replicas)

    async def delete(self, function: FunctionId) -> None:
        async with self._changing(function):
            reconciler = self._reconciler(function)
            await self._store.delete_function(function)
            del self._reconcilers[function]
        # Calls under way may take their exec_timeout, which is longer than clients wait.
        await asyncio.wait([self._spawn(self._end(function, reconciler))], timeout=DELETE_SECONDS)

    async def scale(self, function: FunctionId, replicas: int) -> None:
        if not 0 <= replicas <= self._settings.replica_limit:
            raise InvalidRequestError(
                f"replicas: expected 0 to {self._settings.replica_limit}, got {replicas}"
            )
        async with self._changing(function):
            reconciler = self._reconciler(function)
            if reconciler.record.replicas == 0:
                await self._wake(reconciler, replicas)
                return
            await self._store.set_replicas(function, replicas)
            reconciler.scale(replicas)

    async def _wake(self, reconciler: FunctionReconciler, replicas: int) -> None:
        """Start replicas while the count is written, which saves a call 2 ms of waiting.

        Returns once the store has committed the count.
        """
        reconciler.scale(replicas)
        try:
            await self._store.set_replicas(reconciler.record.id, replicas)
        except BaseException:
            reconciler.scale(0)
            raise

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        found = [each.status for each in self._reconcilers.values()]
        return sorted(
            (status for status in found if status.id.namespace == namespace),
            key=lambda status: status.id,
        )

    async def status(self, function: FunctionId) -> FunctionStatus:
        return self._reconciler(function).status

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        for reconciler in self._reconcilers.values():
            listener(reconciler.status)

        def end() -> None:
            if listener in self._listeners:
                self._listeners.remove(listener)

        return end

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        return self._read_logs(query)

    async def usage(self, function: FunctionId) -> Usage:
        return self._reconciler(function).usage()

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
        used = sum(function.namespace == name for function in self._reconcilers)
        if used:
            raise InvalidRequestError(f"namespace {name}: expected no functions, it has {used}")
        del self._namespaces[name]
        await self._store.delete_namespace(name)
        await asyncio.to_thread(self._context.secrets.delete_namespace, name)

    async def secrets(self, namespace: str) -> Sequence[str]:
        return await asyncio.to_thread(self._context.secrets.names, namespace)

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Create or replace a secret; running functions see the new value at once."""
        if namespace not in self._namespaces:
            raise InvalidRequestError(f"namespace {namespace[:80]!r} does not exist")
        await asyncio.to_thread(self._context.secrets.put, namespace, name, value)
        for function, reconciler in list(self._reconcilers.items()):
            names = reconciler.secrets()
            if function.namespace == namespace and name in names:
                await asyncio.to_thread(self._context.secrets.refresh, function, name)

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Remove a secret; a running replica keeps what it has seen."""
        await asyncio.to_thread(self._context.secrets.delete, namespace, name)

    async def prune(self) -> Pruned:
        removed = await asyncio.to_thread(self._bundles.prune, self.digests_in_use())
        kinds = {"bundles": removed.bundles, "environments": removed.environments}
        return Pruned(kinds, removed.freed_bytes)

    async def close(self) -> None:
        try:
            # Unless it started, the folder may be another gateway's.
            if self._started:
                await self._stop()
        finally:
            self._bundles.close()

    async def _stop(self) -> None:
        for task in self._upkeep:
            task.cancel()
        await asyncio.wait(self._upkeep)
        await self._end_replicas()
        await self._store.close()
        await asyncio.to_thread(self._paths.close)

    async def _end_replicas(self) -> None:
        reconcilers = [*self._reconcilers.values(), *self._ending]
        grace = self._settings.drain_timeout
        await asyncio.gather(*(reconciler.close(patience=grace) for reconciler in reconcilers))
        await asyncio.gather(*self._tasks)
        await self._context.zygotes.close()
        if self._context.groups is not None:
            await asyncio.to_thread(self._context.groups.close)

    def digests_in_use(self) -> frozenset[str]:
        """Bundles of deployed functions, which a prune keeps."""
        return frozenset(digest for each in self._reconcilers.values() for digest in each.digests())

    def zygote_processes(self) -> Sequence[int]:
        """Process ids of the zygotes that live."""
        return self._context.zygotes.processes()

    def _add_reconciler(self, record: FunctionRecord) -> FunctionReconciler:
        reports = Reports(self._tell, self._is_serving)
        reconciler = FunctionReconciler(record, self._context, self._planner.spec, reports)
        self._reconcilers[record.id] = reconciler
        return reconciler

    def _reconciler(self, function: FunctionId) -> FunctionReconciler:
        try:
            return self._reconcilers[function]
        except KeyError:
            raise NotFoundError(f"function {str(function)[:160]} not found") from None

    @asynccontextmanager
    async def _changing(self, function: FunctionId) -> AsyncIterator[None]:
        """Hold the function's lock: its changes are made one at a time, in their order."""
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

    async def _end(self, function: FunctionId, reconciler: FunctionReconciler) -> None:
        """Drain a removed function, then remove what it kept."""
        self._ending.add(reconciler)
        try:
            await reconciler.close(lambda: self._tell(FunctionRemoved(function)))
        finally:
            self._ending.discard(reconciler)
        if function not in self._reconcilers:
            await asyncio.to_thread(self._context.secrets.hide, function)
            await asyncio.to_thread(self._context.paths.remove_cache, function)

    def _spawn(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _read_logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self._reconciler(query.id)
        async for line in self._context.logs.read(query):
            yield line

    async def _prune_forever(self) -> None:
        while True:
            in_use = {name for each in self._reconcilers.values() for name in each.replicas()}
            freed = await self._context.logs.prune(frozenset(in_use))
            if freed:
                LOG.info("logs pruned: bytes=%d", freed)
            await asyncio.sleep(PRUNE_SECONDS)

    async def _trim_forever(self) -> None:
        """Trim the caches of running functions to their size, again and again."""
        while True:
            for function, reconciler in list(self._reconcilers.items()):
                if reconciler.replicas():
                    await self._trim(function)
            await asyncio.sleep(TRIM_SECONDS)

    async def _trim(self, function: FunctionId) -> None:
        folder, most = self._paths.cache(function), self._settings.cache_bytes
        if removed := await asyncio.to_thread(scratch.trim, folder, most):
            LOG.warning("cache over its size: function=%s removed_bytes=%d", function, removed)
