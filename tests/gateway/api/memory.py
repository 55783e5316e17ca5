"""A provider that keeps everything in memory and runs nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from gateway.errors import InvalidRequestError, NotFoundError
from gateway.function import (
    DEFAULT_NAMESPACE,
    FunctionDeployment,
    FunctionId,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    Usage,
)
from gateway.providers import Listener

CREATED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


class MemoryProvider:
    """Keeps what it is told; `changes` counts what altered its state."""

    def __init__(self) -> None:
        self.statuses: dict[FunctionId, FunctionStatus] = {}
        self.known = {DEFAULT_NAMESPACE: Namespace(DEFAULT_NAMESPACE)}
        self.kept: dict[tuple[str, str], bytes] = {}
        self.lines: list[LogLine] = []
        self.queries: list[LogQuery] = []
        self.more: asyncio.Queue[LogLine] = asyncio.Queue()
        self.followers = 0
        self.changes = 0
        self.broken: Exception | None = None
        self.scaled = asyncio.Event()

    async def deploy(self, deployment: FunctionDeployment) -> None:
        for secret in deployment.secrets:
            if (deployment.id.namespace, secret) not in self.kept:
                raise InvalidRequestError(f"secrets: expected one that exists, got '{secret}'")
        self.changes += 1
        known = self.statuses.get(deployment.id)
        count = known.replicas if known else 1
        self.statuses[deployment.id] = FunctionStatus(deployment, count, (), CREATED)

    async def delete(self, function: FunctionId) -> None:
        await self.status(function)
        self.changes += 1
        del self.statuses[function]

    async def scale(self, function: FunctionId, replicas: int) -> None:
        status = await self.status(function)
        if self.broken:
            raise self.broken
        self.changes += 1
        self.statuses[function] = replace(status, replicas=replicas)
        self.scaled.set()

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        if self.broken:
            raise self.broken
        ids = sorted(key for key in self.statuses if key.namespace == namespace)
        return [self.statuses[key] for key in ids]

    async def status(self, function: FunctionId) -> FunctionStatus:
        if function not in self.statuses:
            raise NotFoundError(f"function {function} not found")
        return self.statuses[function]

    def watch(self, listener: Listener) -> Callable[[], None]:
        for status in self.statuses.values():
            listener(status)
        return lambda: None

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self.queries.append(query)
        self.followers += 1
        try:
            for line in self.lines:
                yield line
            while query.follow:
                yield await self.more.get()
        finally:
            self.followers -= 1

    async def usage(self, function: FunctionId) -> Usage:
        return Usage(12.5, 64 * 2**20)

    async def namespaces(self) -> Sequence[Namespace]:
        if self.broken:
            raise self.broken
        return [self.known[name] for name in sorted(self.known)]

    async def put_namespace(self, namespace: Namespace) -> None:
        self.changes += 1
        self.known[namespace.name] = namespace

    async def delete_namespace(self, name: str) -> None:
        if any(key.namespace == name for key in self.statuses):
            raise InvalidRequestError(f"namespace {name}: expected no function in it")
        self.changes += 1
        del self.known[name]

    async def secrets(self, namespace: str) -> Sequence[str]:
        return sorted(name for space, name in self.kept if space == namespace)

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        self.changes += 1
        self.kept[namespace, name] = value

    async def delete_secret(self, namespace: str, name: str) -> None:
        if (namespace, name) not in self.kept:
            raise NotFoundError(f"secret {name}.{namespace} not found")
        self.changes += 1
        del self.kept[namespace, name]

    async def close(self) -> None:
        self.statuses.clear()
