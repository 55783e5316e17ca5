"""Where functions run: the Provider protocol and its implementations.

A provider takes and gives plain types, raises `gateway.types.errors` only and knows no HTTP. Every
operation may be repeated with the same effect. One contract suite runs on all of them.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from gateway.types.function import (
    FunctionDeployment,
    FunctionEvent,
    FunctionStatus,
    LogLine,
    LogQuery,
    Namespace,
    Usage,
)
from gateway.types.ids import FunctionId

if TYPE_CHECKING:
    # Imports uv, which is not installed where nothing is built.
    from gateway.building.target import BuildTarget

Listener = Callable[[FunctionEvent], None]


@dataclass(frozen=True, slots=True)
class Pruned:
    """What a prune removed. removed: names by kind; freed_bytes: of disk."""

    removed: Mapping[str, Sequence[str]]
    freed_bytes: int


class Provider(Protocol):
    """Runs functions and keeps what was deployed."""

    @property
    def name(self) -> str:
        """As /system/info shows it."""

    @property
    def orchestration(self) -> str:
        """What runs the processes, as /system/info shows it: `embedded`, `kubernetes`."""

    @property
    def isolation(self) -> str:
        """What separates replicas from each other, or `none: ` and why; may change at start."""

    @property
    def target(self) -> "BuildTarget | None":
        """Where builds for this provider end; None when images come from elsewhere."""

    async def start(self) -> None:
        """Bring back what was deployed; called once, from the main thread.

        Raises SluiceError when it cannot run here.
        """

    async def close(self) -> None:
        """End every replica and release what is held; deployments stay for the next start.

        Called once, also for a provider that was never started or failed to start.
        """

    async def deploy(self, deployment: FunctionDeployment) -> None:
        """Create the function or replace it; returns when the request is durable.

        The new replicas come up in the background: an update readies them before the old ones
        drain, and one that fails keeps the old ones and leaves its reason in the status.
        Raises InvalidRequestError when the image, a secret or a limit cannot be used.
        """

    async def delete(self, function: FunctionId) -> None:
        """Forget the function; a long drain goes on after the return. Raises NotFoundError."""

    async def scale(self, function: FunctionId, replicas: int) -> None:
        """Set the desired count, 0 included; surplus replicas drain. Raises NotFoundError."""

    async def list(self, namespace: str) -> Sequence[FunctionStatus]:
        """The functions of a namespace, by name."""

    async def status(self, function: FunctionId) -> FunctionStatus:
        """One function. Raises NotFoundError."""

    def watch(self, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every function, then with every change; returns a call that ends it.

        The call is synchronous: when it returns from a status in which a replica is no longer
        ready, that replica is given no further call and may be stopped once its own are answered.
        """

    def logs(self, query: LogQuery) -> AsyncIterator[LogLine]:
        """Lines as written; ends by itself unless `query.follow`. Raises NotFoundError."""

    async def usage(self, function: FunctionId) -> Usage:
        """CPU and memory of the function's replicas. Raises NotFoundError."""

    async def namespaces(self) -> Sequence[Namespace]:
        """All namespaces by name; the default one is always there."""

    async def put_namespace(self, namespace: Namespace) -> None:
        """Create the namespace or replace its labels and annotations."""

    async def delete_namespace(self, name: str) -> None:
        """Remove an empty namespace. Raises NotFoundError, InvalidRequestError when not empty."""

    async def secrets(self, namespace: str) -> Sequence[str]:
        """Names of the secrets of a namespace, sorted; never a value."""

    async def put_secret(self, namespace: str, name: str, value: bytes) -> None:
        """Create or replace a secret; running functions see the new value when restarted."""

    async def delete_secret(self, namespace: str, name: str) -> None:
        """Remove a secret. Raises NotFoundError."""

    async def prune(self) -> Pruned:
        """Remove what no deployment uses. Raises NotSupportedError when nothing is kept."""
