"""What a gateway says to have a replica made, and what it is told of it: datagrams and descriptors.

A `Blank` goes to a zygote, or to a cold interpreter; the `Order` goes to the replica that was
made, with the `Request` in a memory file.
"""

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sluice.runtime.launching import sandbox as isolation

STARTED, FAILED, EXITED = "started", "failed", "exited"
SPECIALIZATION_BYTES: Final = 16
SPECIALIZATION_DESCRIPTORS: Final = 4
LONGEST_REASON: Final = 900  # characters: a message fits one datagram, and a pipe's atomic write
SetThreads = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How a replica is made that is nobody's yet: what it is to be comes later, as an order.

    isolated: whether in namespaces. threads: of numeric libraries. spare: whether nobody waits for
    it. supervision: socket to the gateway for `started` (with a pidfd), `failed` and `exited`.
    orders: socket the order comes by. groups: cgroup.procs files that the replica joins.
    """

    isolated: bool
    threads: int
    spare: bool
    supervision: int
    specialization: int
    groups: tuple[int, ...]

    @classmethod
    def read(cls, data: bytes, descriptors: Sequence[int]) -> "ProcessSpec":
        """What a datagram with its descriptors, in the order of the fields, asks for."""
        document: dict[str, Any] = json.loads(data)
        supervision, specialization, *groups = descriptors
        isolated, spare = bool(document["isolated"]), bool(document["spare"])
        threads = int(document["threads"])
        return cls(isolated, threads, spare, supervision, specialization, tuple(groups))


@dataclass(frozen=True, slots=True)
class Threads:
    """What sets the threads of numeric libraries, and how many they use in a fork until then."""

    setters: Sequence[SetThreads]
    count: int


@dataclass(frozen=True, slots=True)
class ReplicaRequest:
    """What a replica is to be. sandbox: None runs it without isolation."""

    environ: Mapping[str, str]
    folder: str
    sandbox: isolation.Sandbox | None

    @classmethod
    def read(cls, descriptor: int) -> "ReplicaRequest":
        """The request in a memory file, which may be larger than a datagram."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            document: dict[str, Any] = json.load(file)
        sandbox = document["sandbox"]
        return cls(
            document["environ"],
            document["folder"],
            isolation.Sandbox.read(sandbox) if sandbox else None,
        )


@dataclass(frozen=True, slots=True)
class Specialization:
    """The descriptors that make a blank somebody's replica, as sent. request: memory file."""

    request: int
    listener: int
    status: int
    log: int

    @classmethod
    def receive(cls, specialization: socket.socket) -> "Specialization | None":
        """The order, once it comes; None when the gateway has closed its end."""
        data, descriptors, _, _ = socket.recv_fds(
            specialization, SPECIALIZATION_BYTES, SPECIALIZATION_DESCRIPTORS
        )
        return cls(*descriptors) if data else None


def message(event: str, **facts: object) -> bytes:
    """One datagram of the protocol."""
    reason = facts.get("reason")
    if isinstance(reason, str):
        facts["reason"] = reason[:LONGEST_REASON]
    return json.dumps({"event": event, **facts}).encode()
