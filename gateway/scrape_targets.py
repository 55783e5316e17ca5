"""What Prometheus scrapes through the gateway: every replica, and programs beside the gateway."""

import asyncio
import re
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

REPLICA_PATH: Final = "/_/metrics"
SERVICE_PATH: Final = "/metrics"
SCRAPED: Final = frozenset({ReplicaState.READY, ReplicaState.DRAINING})
MAX_RESPONSE_BYTES: Final = 16 * 1024 * 1024
STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] (\d{3})")


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
    """The response to a GET in HTTP/1.0: without chunks, ended by the end of the connection."""
    if isinstance(address, UnixAddress):
        reader, writer = await asyncio.open_unix_connection(address.path)
    else:
        reader, writer = await asyncio.open_connection(address.host, address.port)
    try:
        writer.write(f"GET {path} HTTP/1.0\r\nHost: target\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        headers = _headers(head)
        return headers.get(b"content-type", b"text/plain"), await _body(reader, headers)
    finally:
        writer.close()


def _headers(head: bytes) -> dict[bytes, bytes]:
    first, *lines = head.split(b"\r\n")
    status = STATUS_LINE.match(first)
    if status is None or status[1] != b"200":
        raise UpstreamError(f"metrics: expected status 200, got '{first[:60].decode('latin-1')}'")
    pairs = (line.partition(b":") for line in lines if line)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[bytes, bytes]) -> bytes:
    length = headers.get(b"content-length", b"")
    expected = int(length) if length.isdigit() else None
    body = bytearray()
    while (expected is None or len(body) < expected) and (piece := await reader.read(65536)):
        body += piece
        if len(body) > MAX_RESPONSE_BYTES:
            raise UpstreamError(f"metrics: expected at most {MAX_RESPONSE_BYTES} bytes, got more")
    if expected is not None and len(body) != expected:
        raise UpstreamError(f"metrics: expected {expected} bytes, got {len(body)}")
    return bytes(body)
