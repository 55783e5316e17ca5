"""Forks replicas from a process that has an environment's libraries imported.

`python -m runtime.zygote [NAME...] CHANNEL PARENT` imports the modules or distributions named,
then speaks datagrams over an inherited Unix socket: `{"event": "warm"}`, or `{"event": "cold",
"reason": ...}` and the end, for instance when an import starts a thread, which no fork would
carry along. Each datagram it gets carries the descriptors of one replica (`replica.Handover`).
`--cold` in place of names imports nothing and serves one such datagram from a cold interpreter.

zygote > intermediate (namespaces, waits for the replica) > replica (PID 1 of its namespaces).
Each ends when the one before it does, and all of them when the gateway closes its sockets.
"""

import ctypes
import gc
import importlib
import importlib.metadata
import importlib.util
import os
import re
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from runtime import isolation
from runtime.replica import FAILED, Handover, SetThreads, leave, message, supervise

WARM, COLD = "warm", "cold"
# What handlers import of the standard library and the runtime does not: found here by every fork.
# It takes 20 to 40 ms off the start of `predict`, for 3 MiB once in each zygote.
STANDARD: Final = (
    "concurrent.futures.thread",
    "csv",
    "email.parser",
    "hashlib",
    "http.client",
    "tempfile",
    "urllib.parse",
    "urllib.request",
    "uuid",
)
COLD_START: Final = "--cold"
MESSAGE_BYTES: Final = 4096
MOST_DESCRIPTORS: Final = 16
THREAD_SETTERS: Final = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "omp_set_num_threads",
    "MKL_Set_Num_Threads",
)
THREADED_LIBRARY: Final = re.compile(r"(/\S*(?:openblas|libgomp|libiomp|libomp|mkl_rt)\S*)$")


def main(arguments: Sequence[str]) -> int:
    """Serve the channel until its other end is closed; returns the exit code."""
    *names, channel, parent = arguments
    isolation.die_with_parent(int(parent))
    link = socket.socket(fileno=int(channel))
    if names == [COLD_START]:
        return _start_cold(link)
    if reason := _preload(names):
        link.send(message(COLD, reason=reason))
        # A library's threads may keep an interpreter from ending.
        os._exit(0)
    setters = find_thread_setters()
    # What is imported stays: a collection in a child would copy its pages for nothing.
    gc.collect()
    gc.freeze()
    # The intermediate reports how its replica ended; nobody waits for the intermediate.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    link.send(message(WARM))
    _fork_on_request(link, setters)
    return 0


def _fork_on_request(link: socket.socket, setters: Sequence[SetThreads]) -> None:
    zygote = os.getpid()
    while (descriptors := _receive(link)) is not None:
        handover = Handover.of(descriptors)
        try:
            child = os.fork()
        except OSError as error:
            os.write(handover.supervision, message(FAILED, reason=f"fork: {error.strerror}"))
            child = zygote
        if child == 0:
            link.close()
            leave(supervise, handover, zygote, setters)
        for descriptor in descriptors:
            os.close(descriptor)


def _start_cold(link: socket.socket) -> int:
    parent = os.getppid()
    descriptors = _receive(link)
    link.close()
    if descriptors is not None:
        supervise(Handover.of(descriptors), parent, ())
    return 0


def _receive(link: socket.socket) -> list[int] | None:
    """The descriptors of the next request; None at the end of the channel."""
    data, descriptors, _, _ = socket.recv_fds(link, MESSAGE_BYTES, MOST_DESCRIPTORS)
    return list(descriptors) if data else None


def _preload(names: Sequence[str]) -> str:
    """Import the runtime and what `names` stand for; why no replica may be forked, else ''."""
    try:
        from runtime.main import preload  # noqa: PLC0415 - a cold start imports it isolated

        preload()
        for module in (*STANDARD, *resolved(names)):
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a library may raise anything at import
        return f"{type(error).__name__} at import: {error}"
    threads = sum(1 for _ in Path("/proc/self/task").iterdir()) - 1
    return f"{threads} threads were started at import" if threads else ""


def resolved(names: Sequence[str]) -> list[str]:
    """The modules that `names`, of modules or of distributions, stand for; others are left out."""
    found = [name for name in names if _present(name)]
    wanted = {_normal(name) for name in names} - {_normal(name) for name in found}
    if not wanted:
        return found
    for module, owners in importlib.metadata.packages_distributions().items():
        if wanted & set(map(_normal, owners)) and not module.startswith("_") and _present(module):
            found.append(module)
    return found


def _present(module: str) -> bool:
    if not all(part.isidentifier() for part in module.split(".")):
        return False
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False  # what holds it is absent


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


def find_thread_setters() -> list[SetThreads]:
    """The calls that set how many threads the loaded numeric libraries use."""
    matches = map(THREADED_LIBRARY.search, Path("/proc/self/maps").read_text().splitlines())
    libraries = [ctypes.CDLL(path) for path in {match[1] for match in matches if match}]
    return [
        getattr(library, name)
        for library in libraries
        for name in THREAD_SETTERS
        if hasattr(library, name)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
