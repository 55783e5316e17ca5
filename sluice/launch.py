"""Messages by which a gateway has replicas made, and what else both sides must agree on.

Standard library only, and one version of this module runs on both sides. Messages are NamedTuples:
a dataclass takes 0.6 ms to define, a NamedTuple 0.1, and a cold start waits for each of them.

    gateway -> zygote        ProcessSpec     a datagram with descriptors: fork a process
    gateway -> process       Specialization  a datagram with descriptors: become this replica
                             ReplicaRequest  in a memory file, the first of those descriptors
    zygote -> gateway        Warm, Cold      datagrams
    intermediate -> gateway  Started, Failed, Exited     datagrams, on the supervision socket
    replica -> gateway       Ready, Failed, Replace      lines, on the status pipe
"""

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, Self

# `python -m ZYGOTE [NAME...] CHANNEL PARENT`; COLD_START in place of the names makes one replica
# of that very interpreter. `python -m SANDBOX_PROBE FOLDER` writes why isolation fails here.
ZYGOTE: Final = "sluice.runtime.launching.zygote"
SANDBOX_PROBE: Final = "sluice.runtime.launching.sandbox"
COLD_START: Final = "--cold"

# Variables of a replica, set by the gateway.
LISTEN_FD_VARIABLE: Final = "SLUICE_LISTEN_FD"
STATUS_FD_VARIABLE: Final = "SLUICE_STATUS_FD"
BUNDLE_VARIABLE: Final = "SLUICE_BUNDLE"
PROCESS_VARIABLE: Final = "SLUICE_FPROCESS"
REPLICA_VARIABLE: Final = "SLUICE_REPLICA"
GATEWAY_URL_VARIABLE: Final = "SLUICE_GATEWAY_URL"
SECRETS_DIR_VARIABLE: Final = "SLUICE_SECRETS_DIR"
CACHE_DIR_VARIABLE: Final = "SLUICE_CACHE_DIR"
NAME_VARIABLE: Final = "OPENFAAS_NAME"
NAMESPACE_VARIABLE: Final = "OPENFAAS_NAMESPACE"
# Descriptors of a replica, which LISTEN_FD_VARIABLE and STATUS_FD_VARIABLE name.
LISTEN_FD, STATUS_FD = 3, 4
# What a sandbox shows the replica's own folders as.
SECRETS_DIR: Final = "/var/openfaas/secrets"
PRIVATE_TMP: Final = "/tmp"  # noqa: S108 - a folder of the replica's own is mounted there
PRIVATE_CACHE: Final = "/tmp/.cache"  # noqa: S108 - likewise; where libraries look for a home's

# Characters: a message then fits a datagram of MESSAGE_BYTES and a pipe's atomic write.
LONGEST_REASON: Final = 900
MESSAGE_BYTES: Final = 8192
MOST_DESCRIPTORS: Final = 16
_SPECIALIZE: Final = b"specialize"


class ProcessSpec(NamedTuple):
    """How to make a process that becomes a replica only when it is specialized.

    isolated: whether in namespaces. threads: of numeric libraries. warm: whether it goes to the
    warm pool, so that no call waits for it. The rest are descriptors. supervision: socket to the
    gateway. specialization: socket that a Specialization comes by. groups: cgroup.procs files of
    the control groups to join.
    """

    isolated: bool
    threads: int
    warm: bool
    supervision: int
    specialization: int
    groups: tuple[int, ...] = ()

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.supervision, self.specialization, *self.groups

    def send(self, channel: socket.socket) -> None:
        """Send it with its descriptors, which stay the caller's. Raises OSError."""
        document = {"isolated": self.isolated, "threads": self.threads, "warm": self.warm}
        socket.send_fds(channel, [json.dumps(document).encode()], self.descriptors)

    @classmethod
    def receive(cls, channel: socket.socket) -> Self | None:
        """The next one; None when the gateway has closed its end."""
        data, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, MOST_DESCRIPTORS)
        if not data:
            return None
        document: dict[str, Any] = json.loads(data)
        supervision, specialization, *groups = descriptors
        isolated, warm = bool(document["isolated"]), bool(document["warm"])
        threads = int(document["threads"])
        return cls(isolated, threads, warm, supervision, specialization, tuple(groups))


class Specialization(NamedTuple):
    """Descriptors that turn an unspecialized process into a replica.

    request: memory file with a ReplicaRequest. listener: socket to serve. status: pipe for events.
    log: becomes standard output and standard error.
    """

    request: int
    listener: int
    status: int
    log: int

    @property
    def descriptors(self) -> tuple[int, ...]:
        return self.request, self.listener, self.status, self.log

    def send(self, channel: socket.socket) -> None:
        """Send the descriptors, which stay the caller's. Raises OSError."""
        socket.send_fds(channel, [_SPECIALIZE], self.descriptors)

    @classmethod
    def receive(cls, channel: socket.socket) -> Self | None:
        """The specialization, once it comes; None when the gateway has closed its end."""
        data, descriptors, _, _ = socket.recv_fds(channel, len(_SPECIALIZE), MOST_DESCRIPTORS)
        return cls(*descriptors) if data else None


class Sandbox(NamedTuple):
    """What one replica sees of the machine. Paths are absolute and without links.

    hide: folders replaced by empty ones. show: files and folders that stay visible, read-only,
    although a hidden folder holds them. tmp: the folder seen as PRIVATE_TMP. secrets: the folder
    seen as SECRETS_DIR, cache: the one seen as PRIVATE_CACHE; empty for none. tmp_bytes: size of
    PRIVATE_TMP when it is memory; 0 for the folder `tmp`, without limit. processes: how many
    processes and threads it may have; 0 for no limit.
    """

    hide: tuple[str, ...]
    show: tuple[str, ...]
    tmp: str
    secrets: str = ""
    cache: str = ""
    tmp_bytes: int = 0
    processes: int = 0

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Self:
        """The sandbox of a decoded JSON object."""
        hide, show = tuple(document["hide"]), tuple(document["show"])
        tmp, secrets, cache = (str(document[name]) for name in ("tmp", "secrets", "cache"))
        sizes = (int(document[name]) for name in ("tmp_bytes", "processes"))
        return cls(hide, show, tmp, secrets, cache, *sizes)


class ReplicaRequest(NamedTuple):
    """What a replica is. environ: all of it. sandbox: None runs the replica without isolation."""

    environ: Mapping[str, str]
    folder: str
    sandbox: Sandbox | None

    def write(self) -> int:
        """The descriptor of a new memory file that holds it: it may be larger than a datagram."""
        document = {
            "environ": dict(self.environ),
            "folder": self.folder,
            "sandbox": self.sandbox._asdict() if self.sandbox else None,
        }
        descriptor = os.memfd_create("request", os.MFD_CLOEXEC)
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(json.dumps(document).encode())
        return descriptor

    @classmethod
    def read(cls, descriptor: int) -> Self:
        """The request in a memory file, whose descriptor is closed."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            document: dict[str, Any] = json.load(file)
        sandbox = document["sandbox"]
        return cls(
            document["environ"], document["folder"], Sandbox.of(sandbox) if sandbox else None
        )


class Warm(NamedTuple):
    """The zygote has its imports and can fork."""

    event: Literal["warm"] = "warm"


class Cold(NamedTuple):
    """The zygote ends without forking."""

    reason: str
    event: Literal["cold"] = "cold"


class Started(NamedTuple):
    """The process exists; a pidfd of it comes along. pid: in the gateway's namespace."""

    pid: int
    event: Literal["started"] = "started"


class Failed(NamedTuple):
    """No replica comes of this start."""

    reason: str
    event: Literal["failed"] = "failed"


class Exited(NamedTuple):
    """The replica has ended. status: as os.waitpid returns it."""

    status: int
    event: Literal["exited"] = "exited"


class Ready(NamedTuple):
    """The replica takes calls."""

    event: Literal["ready"] = "ready"


class Replace(NamedTuple):
    """The replica drains itself and wants a successor."""

    reason: str
    event: Literal["replace"] = "replace"


Event = Warm | Cold | Started | Failed | Exited | Ready | Replace
_READERS: Final[Mapping[str, Callable[[Mapping[str, Any]], Event]]] = {
    "warm": lambda _: Warm(),
    "cold": lambda document: Cold(_reason(document)),
    "started": lambda document: Started(int(document["pid"])),
    "failed": lambda document: Failed(_reason(document)),
    "exited": lambda document: Exited(int(document["status"])),
    "ready": lambda _: Ready(),
    "replace": lambda document: Replace(_reason(document)),
}


def encode(event: Event) -> bytes:
    """The event as one JSON object on one line, its reason cut to LONGEST_REASON."""
    document = {"event": event.event, **event._asdict()}
    if "reason" in document:
        document["reason"] = _reason(document)
    return json.dumps(document, ensure_ascii=False).encode("utf-8", "backslashreplace")


def decode(data: bytes) -> Event | None:
    """The event in `data`; None for anything else: functions can write to the status pipe."""
    try:
        document = json.loads(data)
        return _READERS[document["event"]](document)
    except (KeyError, OverflowError, RecursionError, TypeError, ValueError):
        return None


def send(channel: socket.socket, event: Event, descriptors: Sequence[int] = ()) -> None:
    """Send one datagram with the event. Raises OSError."""
    if descriptors:
        socket.send_fds(channel, [encode(event)], list(descriptors))
    else:
        channel.send(encode(event))


def receive(channel: socket.socket) -> tuple[Event | None, int]:
    """The event of the next datagram and the descriptor sent along, -1 for none.

    No event: the other end is closed. Raises BlockingIOError when there is no datagram yet.
    """
    try:
        data, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 1)
    except ConnectionError:
        data, descriptors = b"", []
    return decode(data), descriptors[0] if descriptors else -1


def _reason(document: Mapping[str, Any]) -> str:
    return str(document.get("reason", ""))[:LONGEST_REASON]
