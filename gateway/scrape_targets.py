"""What Prometheus scrapes through the gateway: every replica, and programs beside the gateway."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.types.errors import DeadlineExceededError, NotFoundError, UpstreamError
from gateway.types.function import (
    Address,
    FunctionEvent,
    FunctionRemoved,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from sluice.http_get import BodyError, get

REPLICA_PATH: Final = "/_/metrics"
SERVICE_PATH: Final = "/metrics"
SCRAPED: Final = frozenset({ReplicaState.READY, ReplicaState.DRAINING})
MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """One program with metrics of its own. labels: what Prometheus is to put on its series."""

    id: str
    address: Address
    path: str
    labels: Mapping[str, str]


class ScrapeTargets:
    """Follows the provider: lists the targets there are and scrapes them."""

    def __init__(self, services: Mapping[str, UnixAddress], seconds: float) -> None:
        self._services, self._seconds = services, seconds
        self._replicas: dict[FunctionId, tuple[Replica, ...]] = {}

    def apply(self, event: FunctionEvent) -> None:
        """Follow a change: the provider's listener."""
        if isinstance(event, FunctionRemoved):
            self._replicas.pop(event.id, None)
        else:
            self._replicas[event.id] = event.running

    def all(self) -> list[ScrapeTarget]:
        """Every target that can be scraped now."""
        found = [
            _replica_target(function, replica)
            for function, replicas in self._replicas.items()
            for replica in replicas
            if replica.state in SCRAPED
        ]
        return found + [
            ScrapeTarget(name, address, SERVICE_PATH, {"service": name})
            for name, address in self._services.items()
            if _exists(address)
        ]

    async def scrape(self, identity: str) -> tuple[bytes, bytes]:
        """Content type and text of a target's metrics.

        Raises NotFoundError, UpstreamError when it does not respond with 200, and
        DeadlineExceededError.
        """
        target = next((target for target in self.all() if target.id == identity), None)
        if target is None:
            raise NotFoundError(f"no target {identity[:80]}")
        try:
            async with asyncio.timeout(self._seconds):
                return await _get(target.address, target.path)
        except TimeoutError as error:
            raise DeadlineExceededError(
                f"{target.id}: no metrics within {self._seconds:g} s"
            ) from error
        except (OSError, asyncio.LimitOverrunError, asyncio.IncompleteReadError) as error:
            raise UpstreamError(f"{target.id}: cannot be reached: {error}") from error


def _replica_target(function: FunctionId, replica: Replica) -> ScrapeTarget:
    labels = {"function_name": str(function), "replica": replica.id}
    return ScrapeTarget(replica.id, replica.address, REPLICA_PATH, labels)


def _exists(address: UnixAddress) -> bool:
    return Path(address.path).is_socket()


async def _get(address: Address, path: str) -> tuple[bytes, bytes]:
    """Content type and text of the metrics at an address. Raises UpstreamError and as `get`."""
    where = address.path if isinstance(address, UnixAddress) else (address.host, address.port)
    try:
        response = await get(where, path, MAX_RESPONSE_BYTES)
    except BodyError as error:
        raise UpstreamError(f"metrics: {error}") from error
    if response.status != 200:
        line = response.status_line[:60].decode("latin-1")
        raise UpstreamError(f"metrics: expected status 200, got '{line}'")
    return response.headers.get(b"content-type", b"text/plain"), response.body
