"""A provider that runs functions as real sockets in the test's own process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gateway.providers import Listener, Pruned
from gateway.types.errors import InvalidRequestError, NotFoundError, NotSupportedError
from gateway.types.function import (
    FunctionDeployment,
    FunctionEvent,
    FunctionRemoved,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    Replica,
    ReplicaState,
    Usage,
)
from gateway.types.ids import DEFAULT_NAMESPACE, FunctionId
from gateway.types.scaling import ScalingPolicy
from tests.fake_replica import Behaviour, FakeReplica, ReplicaCall, echo

__all__ = ["FakeProvider", "FakeReplica", "ReplicaCall", "deployment", "echo"]


def deployment(name: str, namespace: str = DEFAULT_NAMESPACE, **fields: Any) -> FunctionDeployment:
    """A deployment of which a test says only what matters to it."""
    fields.setdefault("image", f"{name}:1")
    return FunctionDeployment(FunctionId(name, namespace), **fields)


@dataclass(slots=True)
class _Function:
    deployment: FunctionDeployment
    desired: int
    created_at: datetime
    replicas: list[FakeReplica] = field(default_factory=list)
    reason: str = ""


class FakeProvider:
    """Implements `gateway.providers.Provider` in memory; every replica listens on a real socket.

    folder: where Unix sockets are made; None: replicas listen on 127.0.0.1, port 0.
    behaviour: what replicas answer, by function name in `behaviours`, else this one.
    starts: cleared, new replicas stay `starting` until it is set. start_failure: when not empty,
    new replicas fail with it. deployed, scaled: what was asked, in order. pruned: what a prune
    removes; None: this provider keeps nothing.
    """

    name = "sluice-fake"
    orchestration = "fake"
    isolation = "none: a test"
    target = None

    def __init__(self, folder: Path | None = None, behaviour: Behaviour = echo) -> None:
        self.folder = folder
        self.behaviour = behaviour
        self.behaviours: dict[str, Behaviour] = {}
        self.starts = asyncio.Event()
        self.starts.set()
        self.start_failure = ""
        self.deployed: list[FunctionDeployment] = []
        self.scaled: list[tuple[FunctionId, int]] = []
        self.known_secrets: dict[str, dict[str, bytes]] = {}
        self.log_lines: list[LogLine] = []
        self.pruned: Pruned | None = None
        self._functions: dict[FunctionId, _Function] = {}
        self._namespaces = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE)}
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._logged = asyncio.Event()
        self._count = 0

    # What tests ask and do.

    def replicas(self, name: str, namespace: str = DEFAULT_NAMESPACE) -> list[FakeReplica]:
        """The replicas of a function, draining ones included, oldest first."""
        return list(self._function(FunctionId(name, namespace)).replicas)

    async def ready(self, name: str, count: int = 1, namespace: str = DEFAULT_NAMESPACE) -> None:
        """Returns when `count` replicas are ready and no other is left."""
        changed = asyncio.Event()
        end = self.watch(lambda _event: changed.set())
        try:
            while [each.state for each in self.replicas(name, namespace)] != [
                ReplicaState.READY
            ] * count:
                changed.clear()
                await changed.wait()
        finally:
            end()

    def kill(self, replica: FakeReplica, reason: str = "", *, told: bool = True) -> None:
        """Kill a replica as the kernel would; told: the provider notices it at once."""
        replica.kill()
        replica.reason = reason
        if told:
            self.tell_killed(replica, reason)

    def tell_killed(self, replica: FakeReplica, reason: str) -> None:
        """The provider notices that a replica ended: `failed` with the reason, then a new one."""
        function = self._owner(replica)
        replica.state, replica.reason = ReplicaState.FAILED, reason
        self._emit(function)
        function.replicas.remove(replica)
        self._add(function, replica.restarts + 1, reason)

    def tell_draining(self, replica: FakeReplica) -> None:
        """The provider says that a replica drains; the replica itself is left as it is."""
        replica.state = ReplicaState.DRAINING
        self._emit(self._owner(replica))

    def log(self, line: LogLine) -> None:
        """Have a replica write a line."""
        self.log_lines.append(line)
        self._logged.set()

    # Provider.

    async def start(self) -> None:
        return

    async def prune(self) -> Pruned:
        if self.pruned is None:
            raise NotSupportedError("this provider keeps nothing that could be pruned")
        return self.pruned

    async def deploy(self, deployment: FunctionDeployment) -> None:
        known = self.known_secrets.get(deployment.id.namespace, {})
        for secret in deployment.secrets:
            if secret not in known:
                raise InvalidRequestError(f"secret {secret}: not found")
        self.deployed.append(deployment)
        function = self._functions.get(deployment.id)
        if function is None:
            count = ScalingPolicy.parse_bounds(deployment).min_replicas
            function = _Function(deployment, count, datetime.now(UTC))
            self._functions[deployment.id] = function
            self._fill(function)
            return
        function.deployment, function.reason = deployment, ""
        old = [each for each in function.replicas if each.state is not ReplicaState.DRAINING]
        new = [self._add(function) for _ in range(function.desired)]
        self._spawn(self._replace(function, old, new))

    async def delete(self, function: FunctionId) -> None:
        found = self._functions.pop(function, None)
        if found is None:
            raise NotFoundError(f"function {function}: not found")
        self._tell(FunctionRemoved(function))
        for replica in found.replicas:
            self._spawn(self._end(replica))

    async def scale(self, function: FunctionId, replicas: int) -> None:
        found = self._function(function)
        self.scaled.append((function, replicas))
        found.desired = replicas
        alive = [each for each in found.replicas if each.state is not ReplicaState.DRAINING]
        for replica in alive[replicas:]:
            self._drain(found, replica)
        self._fill(found)

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        ids = sorted(each for each in self._functions if each.namespace == namespace)
        return [self._status(self._functions[each]) for each in ids]

    async def status(self, function: FunctionId) -> FunctionStatus:
        return self._status(self._function(function))

    def watch(self, listener: Listener) -> Callable[[], None]:
        self._listeners.append(listener)
        for function in list(self._functions.values()):
            listener(self._status(function))
        return lambda: self._listeners.remove(listener)

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self._function(query.id)
        lines = [each for each in self.log_lines if _asked(each, query)]
        for line in lines if query.tail is None else lines[max(0, len(lines) - query.tail) :]:
            yield line
        seen = len(self.log_lines)
        while query.follow:
            await self._logged.wait()
            self._logged.clear()
            for line in self.log_lines[seen:]:
                if _asked(line, query):
                    yield line
            seen = len(self.log_lines)

    async def usage(self, function: FunctionId) -> Usage:
        running = self._function(function).replicas
        return Usage(cpu_millicores=10.0 * len(running), memory_bytes=2**20 * len(running))

    async def namespaces(self) -> Sequence[Namespace]:
        return [self._namespaces[name] for name in sorted(self._namespaces)]

    async def put_namespace(self, namespace: Namespace) -> None:
        self._namespaces[namespace.name] = namespace

    async def delete_namespace(self, name: str) -> None:
        if name not in self._namespaces:
            raise NotFoundError(f"namespace {name}: not found")
        if name == DEFAULT_NAMESPACE:
            raise InvalidRequestError(f"namespace {name}: the default one stays")
        if any(each.namespace == name for each in self._functions):
            raise InvalidRequestError(f"namespace {name}: not empty")
        del self._namespaces[name]
        self.known_secrets.pop(name, None)

    async def secrets(self, namespace: str) -> Sequence[str]:
        return sorted(self.known_secrets.get(namespace, {}))

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        self.known_secrets.setdefault(namespace, {})[name] = value

    async def delete_secret(self, namespace: str, name: str) -> None:
        if name not in self.known_secrets.get(namespace, {}):
            raise NotFoundError(f"secret {name}: not found")
        del self.known_secrets[namespace][name]

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for function in self._functions.values():
            for replica in function.replicas:
                await replica.close()

    # How it gets there.

    def _function(self, function: FunctionId) -> _Function:
        found = self._functions.get(function)
        if found is None:
            raise NotFoundError(f"function {function}: not found")
        return found

    def _owner(self, replica: FakeReplica) -> _Function:
        return next(each for each in self._functions.values() if replica in each.replicas)

    def _fill(self, function: _Function) -> None:
        alive = [each for each in function.replicas if each.state is not ReplicaState.DRAINING]
        for _ in range(function.desired - len(alive)):
            self._add(function)
        self._emit(function)

    def _add(self, function: _Function, restarts: int = 0, reason: str = "") -> FakeReplica:
        self._count += 1
        name = f"{function.deployment.id.name}-{self._count}"
        socket = self.folder / f"{self._count}.sock" if self.folder else None
        behaviour = self.behaviours.get(function.deployment.id.name, self.behaviour)
        replica = FakeReplica(name, behaviour, socket)
        replica.restarts, replica.reason = restarts, reason
        function.replicas.append(replica)
        self._emit(function)
        self._spawn(self._start(function, replica))
        return replica

    async def _start(self, function: _Function, replica: FakeReplica) -> None:
        await self.starts.wait()
        if replica.state is not ReplicaState.STARTING:
            return
        if self.start_failure:
            replica.state, replica.reason = ReplicaState.FAILED, self.start_failure
        else:
            await replica.start()
            replica.state, replica.reason = ReplicaState.READY, ""
        self._emit(function)

    async def _replace(
        self, function: _Function, old: Sequence[FakeReplica], new: Sequence[FakeReplica]
    ) -> None:
        changed = asyncio.Event()
        end = self.watch(lambda _event: changed.set())
        while any(each.state is ReplicaState.STARTING for each in new):
            changed.clear()
            await changed.wait()
        end()
        failed = next((each for each in new if each.state is ReplicaState.FAILED), None)
        for replica in old if failed is None else new:
            self._drain(function, replica)
        if failed is not None:
            function.reason = f"update failed: {failed.reason}"
            self._emit(function)

    def _drain(self, function: _Function, replica: FakeReplica) -> None:
        replica.state = ReplicaState.DRAINING
        self._emit(function)
        self._spawn(self._leave(function, replica))

    async def _leave(self, function: _Function, replica: FakeReplica) -> None:
        await self._end(replica)
        function.replicas.remove(replica)
        self._emit(function)

    async def _end(self, replica: FakeReplica) -> None:
        await replica.drain()
        await replica.close()

    def _status(self, function: _Function) -> FunctionStatus:
        running = tuple(
            Replica(each.name, each.address, each.state, each.restarts, each.reason)
            for each in function.replicas
        )
        return FunctionStatus(
            function.deployment, function.desired, running, function.created_at, function.reason
        )

    def _emit(self, function: _Function) -> None:
        if self._functions.get(function.deployment.id) is function:
            self._tell(self._status(function))

    def _tell(self, event: FunctionEvent) -> None:
        for listener in list(self._listeners):
            listener(event)

    def _spawn(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _asked(line: LogLine, query: LogQuery) -> bool:
    if line.id != query.id or (query.instance and line.instance != query.instance):
        return False
    return query.since is None or line.timestamp >= query.since
