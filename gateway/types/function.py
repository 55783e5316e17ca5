"""What a function is: its deployment, its status and its replicas. No I/O."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from gateway.types.ids import FunctionId


@dataclass(frozen=True, slots=True)
class Resources:
    """Limits or requests as the caller wrote them (`128Mi`, `100m`); empty where not set."""

    memory: str = ""
    cpu: str = ""


@dataclass(frozen=True, slots=True)
class FunctionDeployment:
    """What a developer asks to run. Every collection is empty rather than None."""

    id: FunctionId
    image: str
    env_process: str = ""
    env_vars: Mapping[str, str] = field(default_factory=dict)
    constraints: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    limits: Resources | None = None
    requests: Resources | None = None
    read_only_root_filesystem: bool = False


class ReplicaState(StrEnum):
    """A replica's state. Only a ready one gets calls."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A replica that listens on a Unix socket."""

    path: str


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A replica that listens on a TCP port."""

    host: str
    port: int


Address = UnixAddress | TcpAddress


@dataclass(frozen=True, slots=True)
class Replica:
    """One running copy of a function.

    id: unique over all functions, never used twice. reason: why it is not ready, or why the
    replica that it replaced ended; else empty. restarts: how many it replaces, one after another.
    """

    id: str
    address: Address
    state: ReplicaState
    restarts: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What all replicas of a function use now."""

    cpu_millicores: float
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class FunctionStatus:
    """The state of a deployed function. replicas: the desired count; running: those there are.

    reason: why the function is not as deployed (image cannot start, update failed); else empty.
    """

    deployment: FunctionDeployment
    replicas: int
    running: tuple[Replica, ...]
    created_at: datetime
    reason: str = ""
    usage: Usage | None = None

    @property
    def id(self) -> FunctionId:
        return self.deployment.id

    @property
    def available_replicas(self) -> int:
        return sum(replica.state is ReplicaState.READY for replica in self.running)


@dataclass(frozen=True, slots=True)
class FunctionRemoved:
    """The function was deleted: it gets no more calls."""

    id: FunctionId


FunctionEvent = FunctionStatus | FunctionRemoved


@dataclass(frozen=True, slots=True)
class Namespace:
    """A namespace with its labels and annotations."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line that a replica wrote. instance: the replica's id."""

    id: FunctionId
    instance: str
    timestamp: datetime
    text: str


@dataclass(frozen=True, slots=True)
class LogQuery:
    """Which lines of a function's log. tail: how many of the newest, None for all."""

    id: FunctionId
    instance: str = ""
    tail: int | None = None
    since: datetime | None = None
    follow: bool = False
