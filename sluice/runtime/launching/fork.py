"""A replica's start: from a process that may fork to the runtime serving calls.

The intermediate process makes the namespaces, starts the replica in them, reports how it ended
and kills it when the gateway closes its end of the supervision socket. The replica waits for the
order that says whose it is: it may be made before anybody needs it.
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
        if spec.threads != threads.count:
            for set_threads in threads.setters:
                set_threads(spec.threads)  # here, for the fork ends what they start
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
    with suppress(OSError):  # a gateway that is gone ends the replica in _wait
        launch.send(gateway, launch.Started(replica), [watched])
    _join(spec.groups, replica, held, gateway)
    status = _wait(gateway, replica, watched)
    with suppress(OSError):
        launch.send(gateway, launch.Exited(status))


def _join(groups: Sequence[int], replica: int, held: int, gateway: socket.socket) -> None:
    """Put the replica into its control groups and tell it, or end it.

    From here, because it takes 10 to 14 ms in which the replica can do more than wait.
    """
    try:
        for group in groups:
            os.write(group, b"%d" % replica)
            os.close(group)
        os.write(held, JOINED)
    except (ProcessLookupError, BrokenPipeError):
        return  # it has ended, before or after it was put there
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
    """Without a namespace a replica's descendants outlive it; they are this process's now."""
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    # Where the replica's namespace has covered /proc, nothing is left of it either.
    while children.exists() and (orphans := children.read_text().split()):
        for orphan in map(int, orphans):
            os.kill(orphan, signal.SIGKILL)
            os.waitpid(orphan, 0)


def _become(spec: ProcessSpec, lifeline: int) -> int:
    """The replica's own code: what it may do for anybody, then as it is ordered, the runtime."""
    isolation.die_with_writer(lifeline)
    os.setsid()
    for group in spec.groups:
        os.close(group)
    _reseed()
    if spec.warm:
        from sluice.runtime.launching.prefault import prefault  # noqa: PLC0415 - a cold start is isolated before

        prefault()
    specialization = Specialization.receive(socket.socket(fileno=spec.specialization))
    if specialization is None:
        return 0
    try:
        request = ReplicaRequest.read(specialization.request)
        _place(specialization, lifeline)
        if request.sandbox is not None:
            isolation.confine(request.sandbox)
        _enter(request)
    except (KernelError, OSError) as error:
        _report_failure(str(error))
        return 1
    # Nothing of the function runs outside of its control groups.
    if os.read(LIFELINE_FD, 1) != JOINED:
        return 1
    os.close(LIFELINE_FD)
    return _serve(request.environ)


def _place(specialization: Specialization, lifeline: int) -> None:
    """The handed descriptors at their numbers, every other one closed."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    given = specialization
    sources = nothing, given.listener, given.status, lifeline, given.log
    # Copied upwards first: the number that one is to have may be another's now.
    lowest = max(*sources, FIRST_FREE_FD) + 1
    copies = [fcntl.fcntl(source, fcntl.F_DUPFD_CLOEXEC, lowest) for source in sources]
    places = ((0,), (LISTEN_FD,), (STATUS_FD,), (LIFELINE_FD,), (1, 2))
    for copy, numbers in zip(copies, places, strict=True):
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
    # Line by line: a log line is to be seen when it is written, not when a block is full. New
    # objects, because the zygote's remember that they were files.
    sys.stdout = sys.__stdout__ = _line_writer(1)  # type: ignore[misc]  # typed as final
    sys.stderr = sys.__stderr__ = _line_writer(2)  # type: ignore[misc]  # typed as final


def _reseed() -> None:
    """Have randomness of our own in place of the zygote's."""
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
        from sluice.runtime.main import serve  # noqa: PLC0415 - a cold start is isolated before it
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
