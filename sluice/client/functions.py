"""Functions of a gateway: what is deployed, how many replicas run, what they wrote."""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from sluice.client.connection import Connection, Request, segment
from sluice.client.errors import ClientError, NotFoundError, WaitTimeoutError
from sluice.client.records import read

POLL_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica. state: starting, ready, draining or failed, with its reason."""

    id: str
    state: str
    restarts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """A deployed function. reason: why it does not run as asked; empty where it does."""

    name: str
    image: str
    namespace: str
    replicas: int = 0
    available_replicas: int = 0
    invocation_count: float = 0.0
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    env_vars: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    limits: Mapping[str, str] = field(default_factory=dict)
    requests: Mapping[str, str] = field(default_factory=dict)
    created_at: str = ""
    reason: str = ""
    replica_states: tuple[Replica, ...] = ()


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line that a replica wrote. instance: the replica's id; timestamp: RFC 3339."""

    name: str
    instance: str
    timestamp: str
    text: str


class Functions:
    """`client.functions`. A namespace left out is the gateway's default one."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def list(self, namespace: str = "") -> tuple[Function, ...]:
        """Every function of a namespace; replicas are counted, not described."""
        query = {"namespace": namespace}
        found = self._connection.json(Request("GET", "/system/functions", query), list)
        return tuple(read(Function, one, camel=True) for one in found)

    def describe(self, name: str, namespace: str = "") -> Function:
        """One function with its replicas. Raises NotFoundError."""
        path = f"/system/function/{segment(name)}"
        found = self._connection.json(Request("GET", path, {"namespace": namespace}), dict)
        states = tuple(read(Replica, one) for one in found.get("replicaStates", ()))
        return read(Function, found, camel=True, replica_states=states)

    def deploy(  # noqa: PLR0913 (each is a key of the deployment)
        self,
        name: str,
        image: str,
        *,
        namespace: str = "",
        command: str = "",
        env_vars: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        annotations: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
        limits: Mapping[str, str] | None = None,
        requests: Mapping[str, str] | None = None,
    ) -> None:
        """Create a function, or replace one of that name in full.

        image: as it was built, for example by `sluice up`. command: run once a call, as OpenFaaS's
        `fprocess`. limits, requests: `memory` and `cpu` as Kubernetes writes them.
        """
        document = {
            "service": name,
            "image": image,
            "namespace": namespace,
            "envProcess": command,
            "envVars": dict(env_vars or {}),
            "labels": dict(labels or {}),
            "annotations": dict(annotations or {}),
            "secrets": list(secrets),
            "limits": dict(limits) if limits else None,
            "requests": dict(requests) if requests else None,
        }
        try:
            self._connection.request(Request("PUT", "/system/functions", document=document))
        except NotFoundError:
            self._connection.request(Request("POST", "/system/functions", document=document))

    def wait_ready(self, name: str, namespace: str = "", timeout: float = 120.0) -> Function:
        """The function once a replica is ready, or once it is at zero on purpose.

        Raises ClientError with the reason where no replica starts, WaitTimeoutError.
        """
        deadline = time.monotonic() + timeout
        while True:
            found = self.describe(name, namespace)
            if not found.reason and (found.available_replicas or not found.replicas):
                return found
            if found.reason and all(one.state != "starting" for one in found.replica_states):
                raise ClientError(f"function {name} does not start: {found.reason}")
            if time.monotonic() > deadline:
                raise WaitTimeoutError(f"function {name} is not ready after {timeout:g} s")
            # The REST API has no way to wait for a change.
            time.sleep(POLL_SECONDS)

    def scale(self, name: str, replicas: int, namespace: str = "") -> None:
        """Set the number of replicas; 0 stops the function until it is called."""
        path = f"/system/scale-function/{segment(name)}"
        body = {"serviceName": name, "replicas": replicas}
        query = {"namespace": namespace}
        self._connection.request(Request("POST", path, query, document=body, idempotent=True))

    def remove(self, name: str, namespace: str = "") -> None:
        """Remove a function with its replicas. Raises NotFoundError."""
        query = {"namespace": namespace}
        body = {"functionName": name}
        self._connection.request(Request("DELETE", "/system/functions", query, document=body))

    def logs(
        self,
        name: str,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: str = "",
        instance: str = "",
        namespace: str = "",
    ) -> Iterator[LogLine]:
        """Lines in the order they were written; `follow` waits for more.

        tail: how many of the newest. since: RFC 3339. instance: only of this replica.
        """
        query: dict[str, str | int | None] = {
            "name": name,
            "follow": "true" if follow else "false",
            "tail": tail,
            "since": since,
            "instance": instance,
            "namespace": namespace,
        }
        with self._connection.stream(Request("GET", "/system/logs", query)) as stream:
            for line in stream.lines():
                yield read(LogLine, json.loads(line))
