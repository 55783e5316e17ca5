"""The fake provider with a count of what changed it, and faults on demand."""

from collections.abc import AsyncIterator, Sequence

from gateway.types.function import FunctionDeployment, FunctionStatus, LogLine, LogQuery, Namespace
from gateway.types.ids import FunctionId
from tests.fakes import FakeProvider


class RecordingProvider(FakeProvider):
    """changes: how often its state was changed. broken: what most of it raises, when set.

    states: what `status` answers instead of what runs. queries, followers: logs asked for, and
    how many of those are being read now.
    """

    def __init__(self) -> None:
        super().__init__()
        # The API does not wait for replicas: none has to start here.
        self.starts.clear()
        self.changes = 0
        self.broken: Exception | None = None
        self.states: dict[FunctionId, FunctionStatus] = {}
        self.queries: list[LogQuery] = []
        self.followers = 0

    def _check(self) -> None:
        if self.broken is not None:
            raise self.broken

    async def deployments(self) -> Sequence[FunctionDeployment]:
        """Everything that is deployed, wherever."""
        found = [await super(RecordingProvider, self).list(name) for name in self._namespaces]
        return [status.deployment for statuses in found for status in statuses]

    async def deploy(self, deployment: FunctionDeployment) -> None:
        await super().deploy(deployment)
        self.changes += 1

    async def delete(self, function: FunctionId) -> None:
        await super().delete(function)
        self.changes += 1

    async def scale(self, function: FunctionId, replicas: int) -> None:
        self._check()
        await super().scale(function, replicas)
        self.changes += 1

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        self._check()
        return await super().list(namespace)

    async def status(self, function: FunctionId) -> FunctionStatus:
        return self.states.get(function) or await super().status(function)

    async def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        self.queries.append(query)
        self.followers += 1
        try:
            async for line in super().logs(query):
                yield line
        finally:
            self.followers -= 1

    async def namespaces(self) -> Sequence[Namespace]:
        self._check()
        return await super().namespaces()

    async def put_namespace(self, namespace: Namespace) -> None:
        await super().put_namespace(namespace)
        self.changes += 1

    async def delete_namespace(self, name: str) -> None:
        await super().delete_namespace(name)
        self.changes += 1

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        await super().put_secret(namespace, name, value)
        self.changes += 1

    async def delete_secret(self, namespace: str, name: str) -> None:
        await super().delete_secret(namespace, name)
        self.changes += 1
