"""Starts a replica: from a zygote or a cold interpreter to the runtime serving calls.

The intermediate process makes the namespaces, starts the replica in them, reports how it ended
and kills it when the gateway closes its end of the supervision socket. The replica waits to be
specialized: it may have been made before any function needs it.
"""

import fcntl
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
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Final

from sluice import launch
from sluice.launch import LISTEN_FD, STATUS_FD, ProcessSpec, ReplicaRequest, Specialization
from sluice.runtime.launching import kernel
from sluice.runtime.launching import sandbox as isolation
from sluice.runtime.launching.kernel import KernelError
from sluice.runtime.launching.warmup import Threads

LIFELINE_FD, FIRST_FREE_FD = 5, 6
JOINED: Final = b"j"  # on the lifeline: the replica is in its control groups


def leave(function: Callable[..., int | None], *arguments: object) -> None:
    """Run `function`, then end this forked process without its parent's clean-up."""
    code = 1
    try:
        code = function(*arguments) or 0
    except BaseException:  # noqa: BLE001 - the top of a process
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code)


def supervise(spec: ProcessSpec, parent: int, threads: Threads) -> None:
    """Start the replica, wait for its end and report it."""
    isolation.die_with_parent(parent)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    gateway = socket.socket(fileno=spec.supervision)
    try:
        if spec.isolated:
            isolation.unshare()
            isolation.die_with_parent(parent)
        else:
            kernel.adopt_orphans()
        if spec.threads != threads.initial:
            for set_threads in threads.setters:
                set_threads(spec.threads)  # before the fork, which ends the threads they start
        lifeline, held = os.pipe()
        replica = os.fork()
    except (KernelError, OSError) as error:
        launch.send(gateway, launch.Failed(str(error)))
        return
    if replica == 0:
        os.close(held)
        gateway.close()
        leave(_become, spec, lifeline)
    _close_but({gateway.fileno(), held, *spec.groups})
    watched = os.pidfd_open(replica)
    with suppress(OSError):  # without a gateway, _wait ends the replica
        launch.send(gateway, launch.Started(replica), [watched])
    _join(spec.groups, replica, held, gateway)
    status = _wait(gateway, replica, watched)
    with suppress(OSError):
        launch.send(gateway, launch.Exited(status))


def _join(groups: Sequence[int], replica: int, held: int, gateway: socket.socket) -> None:
    """Put the replica into its control groups and let it run the function, or end it.

    The intermediate process does it because it takes 10 to 14 ms, in which the replica mounts.
    """
    try:
        for group in groups:
            os.write(group, b"%d" % replica)
            os.close(group)
        os.write(held, JOINED)
    except (ProcessLookupError, BrokenPipeError):
        return  # the replica has ended
    except OSError as error:
        with suppress(OSError):
            launch.send(gateway, launch.Failed(f"join control group: {error.strerror}"))
        os.kill(replica, signal.SIGKILL)


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
    """End the descendants of a replica without a namespace; they became this process's children."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    # In a namespace /proc may be covered, and the end of PID 1 ended all others.
    while children.exists() and (orphans := children.read_text().split()):
        for orphan in map(int, orphans):
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)


def _become(spec: ProcessSpec, lifeline: int) -> int:
    """Run the replica: what every function needs, then its specialization, then the runtime."""
    isolation.die_with_writer(lifeline)
    os.setsid()
    for group in spec.groups:
        os.close(group)
    _reseed()
    if spec.warm:
        from sluice.runtime.launching.prefault import prefault  # noqa: PLC0415 - a cold start isolates first

        prefault()
    specialization = Specialization.receive(socket.socket(fileno=spec.specialization))
    if specialization is None:
        return 0
    try:
        request = ReplicaRequest.read(specialization.request)
        _arrange_descriptors(specialization, lifeline)
        if request.sandbox is not None:
            isolation.confine(request.sandbox)
        _enter(request)
    except (KernelError, OSError) as error:
        _report_failure(str(error))
        return 1
    # The function's code runs only in its control groups.
    if os.read(LIFELINE_FD, 1) != JOINED:
        return 1
    os.close(LIFELINE_FD)
    return _serve(request.environ)


def _arrange_descriptors(specialization: Specialization, lifeline: int) -> None:
    """Put the received descriptors at their numbers and close every other one."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    given = specialization
    sources = nothing, given.listener, given.status, lifeline, given.log
    # Copied upwards first: the number that one must have may now be another's.
    lowest = max(*sources, FIRST_FREE_FD) + 1
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, lowest) for source in sources]
    numbers_of = ((0,), (LISTEN_FD,), (STATUS_FD,), (LIFELINE_FD,), (1, 2))
    for copy, numbers in zip(copies, numbers_of, strict=True):
        for number in numbers:
            os.dup2(copy, number, inheritable=number < LISTEN_FD)
    os.closerange(FIRST_FREE_FD, os.sysconf("SC_OPEN_MAX"))


def _enter(request: ReplicaRequest) -> None:
    """Take the replica's folder, variables and streams in place of ours."""
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environ)
    time.tzset()
    tempfile.tempdir = None
    # Line by line: a log line must be visible when it is written, not when a block is full. New
    # objects, because the zygote's still behave as files.
    sys.stdout = sys.__stdout__ = _line_writer(1)  # type: ignore[misc]  # typed as final
    sys.stderr = sys.__stderr__ = _line_writer(2)  # type: ignore[misc]  # typed as final


def _reseed() -> None:
    """Seed the random number generators anew: they have the zygote's state."""
    random.seed()
    numbers: ModuleType | None = sys.modules.get("numpy.random")
    if numbers is not None:
        numbers.seed()


def _line_writer(descriptor: int) -> TextIOWrapper:
    errors = "backslashreplace"
    return os.fdopen(descriptor, "w", 1, encoding="utf-8", errors=errors, closefd=False)


def _report_failure(reason: str) -> None:
    os.write(STATUS_FD, launch.encode(launch.Failed(reason)) + b"\n")


def _serve(environ: Mapping[str, str]) -> int:
    try:
        from sluice.runtime.main import serve  # noqa: PLC0415 - a cold start isolates first
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
