"""A replica's start: from a process that may fork to the runtime serving calls.

The intermediate process makes the namespaces, starts the replica in them, reports how it ended
and kills it when the gateway closes its end of the supervision socket.
"""

import fcntl
import json
import os
import random
import select
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from runtime import isolation, kernel
from runtime.kernel import KernelError

STARTED, FAILED, EXITED = "started", "failed", "exited"
LISTEN_FD, STATUS_FD, FIRST_FREE_FD = 3, 4, 5
LONGEST_REASON: Final = 900  # characters: a message fits one datagram, and a pipe's atomic write
SetThreads = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Request:
    """What a replica is to be. sandbox: None runs it without isolation. threads: for BLAS."""

    environ: Mapping[str, str]
    folder: str
    sandbox: isolation.Sandbox | None
    threads: int

    @classmethod
    def read(cls, descriptor: int) -> "Request":
        """The request in a memory file, which may be larger than a datagram."""
        with os.fdopen(descriptor, "rb") as file:
            file.seek(0)
            document: dict[str, Any] = json.load(file)
        sandbox = document["sandbox"]
        return cls(
            document["environ"],
            document["folder"],
            isolation.Sandbox.read(sandbox) if sandbox else None,
            int(document["threads"]),
        )


@dataclass(frozen=True, slots=True)
class Handover:
    """The descriptors of one replica, in the order in which they are sent.

    request: memory file. supervision: socket to the gateway for `started` (with a pidfd),
    `failed` and `exited`. groups: cgroup.procs files that the replica joins.
    """

    request: int
    supervision: int
    listener: int
    status: int
    log: int
    groups: tuple[int, ...]

    @classmethod
    def of(cls, descriptors: Sequence[int]) -> "Handover":
        request, supervision, listener, status, log, *groups = descriptors
        return cls(request, supervision, listener, status, log, tuple(groups))


def message(event: str, **facts: object) -> bytes:
    """One datagram of the protocol."""
    reason = facts.get("reason")
    if isinstance(reason, str):
        facts["reason"] = reason[:LONGEST_REASON]
    return json.dumps({"event": event, **facts}).encode()


def leave(function: Callable[..., int | None], *arguments: object) -> None:
    """Run `function` and end this forked process without the clean-up of the one it left."""
    code = 1
    try:
        code = function(*arguments) or 0
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def supervise(handover: Handover, parent: int, setters: Sequence[SetThreads]) -> None:
    """Start the replica, wait for its end and report it."""
    isolation.die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gateway = socket.socket(fileno=handover.supervision)
    try:
        request = Request.read(handover.request)
        if request.sandbox is None:
            kernel.adopt_orphans()
        else:
            isolation.unshare()
            isolation.die_with_parent(parent)
        lifeline, held = os.pipe()
        replica = os.fork()
    except (KernelError, OSError) as error:
        gateway.send(message(FAILED, reason=str(error)))
        return
    if replica == 0:
        os.close(held)
        gateway.detach()
        leave(_become, request, handover, lifeline, setters)
    _close_but({gateway.fileno(), held})
    watched = os.pidfd_open(replica)
    with suppress(OSError):  # a gateway that is gone ends the replica in _wait
        socket.send_fds(gateway, [message(STARTED, pid=replica)], [watched])
    status = _wait(gateway, replica, watched)
    with suppress(OSError):
        gateway.send(message(EXITED, status=status))


def _wait(gateway: socket.socket, replica: int, watched: int) -> int:
    """The wait status of the replica, which is killed when the gateway's end closes."""
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    poll.register(gateway, select.POLLIN)
    if watched not in {descriptor for descriptor, _ in poll.poll()}:
        os.kill(replica, signal.SIGKILL)
    status = os.waitpid(replica, 0)[1]
    _end_orphans()
    return status


def _end_orphans() -> None:
    """Without a namespace a replica's descendants outlive it; they are this process's now."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    # Where the replica's namespace has covered /proc, nothing is left of it either.
    while children.exists() and (orphans := children.read_text().split()):
        for orphan in map(int, orphans):
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)


def _become(
    request: Request, handover: Handover, lifeline: int, setters: Sequence[SetThreads]
) -> int:
    """The replica's own code: descriptors, isolation, environment, then the runtime."""
    isolation.die_with_writer(lifeline)
    os.setsid()
    try:
        _place(handover)
        if request.sandbox is not None:
            isolation.confine(request.sandbox)
        _enter(request, setters)
    except (KernelError, OSError) as error:
        _report_failure(str(error))
        return 1
    return _serve(request.environ)


def _place(handover: Handover) -> None:
    """The handed descriptors at their numbers, the cgroups joined, every other one closed."""
    for group in handover.groups:
        os.write(group, b"0")
    nothing = os.open(os.devnull, os.O_RDONLY)
    sources = (nothing, handover.listener, handover.status, handover.log)
    # Copied upwards first: the number that one is to have may be another's now.
    lowest = max(*sources, FIRST_FREE_FD) + 1
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, lowest) for source in sources]
    for copy, numbers in zip(copies, ((0,), (LISTEN_FD,), (STATUS_FD,), (1, 2)), strict=True):
        for number in numbers:
            os.dup2(copy, number, inheritable=number < LISTEN_FD)
    os.closerange(FIRST_FREE_FD, os.sysconf("SC_OPEN_MAX"))


def _enter(request: Request, setters: Sequence[SetThreads]) -> None:
    """Take the replica's folder, variables, randomness and thread limits in place of ours."""
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environ)
    time.tzset()
    tempfile.tempdir = None
    random.seed()
    numbers: ModuleType | None = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()
    for set_threads in setters:
        set_threads(request.threads)
    # Line by line: a log line is to be seen when it is written, not when a block is full. New
    # objects, because the zygote's remember that they were files.
    sys.stdout = sys.__stdout__ = _line_writer(1)  # type: ignore[misc]  # typed as final
    sys.stderr = sys.__stderr__ = _line_writer(2)  # type: ignore[misc]  # typed as final


def _line_writer(descriptor: int) -> TextIOWrapper:
    errors = "backslashreplace"
    return os.fdopen(descriptor, "w", 1, encoding="utf-8", errors=errors, closefd=False)


def _report_failure(reason: str) -> None:
    os.write(STATUS_FD, message(FAILED, reason=reason) + b"\n")


def _serve(environ: Mapping[str, str]) -> int:
    try:
        from runtime.main import serve  # noqa: PLC0415 - a cold start is isolated before it
    except ImportError as error:
        _report_failure(f"the environment cannot import the runtime: {error}")
        return 1
    return serve(dict(environ))


def _close_but(kept: Iterable[int]) -> None:
    """Close every descriptor above the standard streams that is not in `kept`."""
    lowest = 3
    for descriptor in sorted(kept):
        os.closerange(lowest, descriptor)
        lowest = descriptor + 1
    os.closerange(lowest, os.sysconf("SC_OPEN_MAX"))
