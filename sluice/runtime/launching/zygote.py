"""Forks replicas from a process that has an environment's libraries imported.

`python -m sluice.runtime.launching.zygote [NAME...] CHANNEL PARENT` imports the modules or
distributions named, then reports over an inherited Unix socket: `sluice.launch.Warm`, or `Cold` and
it ends, for instance when an import starts a thread, which a fork would lack. Each `ProcessSpec`
that it receives asks for one fork. `--cold` in place of names imports nothing and serves one
`ProcessSpec` by becoming the intermediate process itself.

zygote > intermediate (namespaces, waits for the replica) > replica (PID 1 of its namespaces).
Each ends when the one before it does, and all of them when the gateway closes its sockets.
"""

import gc
import importlib
import importlib.metadata
import importlib.util
import os
import re
import select
import signal
import socket
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from sluice import launch
from sluice.launch import COLD_START, ProcessSpec
from sluice.runtime.launching import sandbox, warmup
from sluice.runtime.launching.fork import leave, supervise
from sluice.runtime.launching.warmup import Threads

# Milliseconds without a request after which the zygote goes on preparing for the next start.
QUIET: Final = 200


def main(arguments: Sequence[str]) -> int:
    """Serve the channel until its other end is closed; returns the exit code."""
    *names, channel, parent = arguments
    sandbox.die_with_parent(int(parent))
    link = socket.socket(fileno=int(channel))
    if names == [COLD_START]:
        return _start_cold(link)
    reason, threads = _preload(names)
    if reason:
        launch.send(link, launch.Cold(reason))
        # A library's threads may keep an interpreter from ending.
        os._exit(0)
    # Without a collection first: the first start would wait for it.
    gc.freeze()
    # The intermediate process reports how its replica ended; nothing waits for it here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    launch.send(link, launch.Warm())
    _fork_on_request(link, threads)
    return 0


def _fork_on_request(link: socket.socket, threads: Threads) -> None:
    for spec in _requests(link):
        _fork(spec, link, threads)


def _fork(spec: ProcessSpec, link: socket.socket, threads: Threads) -> None:
    zygote = os.getpid()
    try:
        child = os.fork()
    except OSError as error:
        os.write(spec.supervision, launch.encode(launch.Failed(f"fork: {error.strerror}")))
        child = zygote
    if child == 0:
        link.close()
        leave(supervise, spec, zygote, threads)
    for descriptor in spec.descriptors:
        os.close(descriptor)


def _start_cold(link: socket.socket) -> int:
    parent = os.getppid()
    spec = ProcessSpec.receive(link)
    link.close()
    if spec is not None:
        supervise(spec, parent, Threads((), 0))
    return 0


def _requests(link: socket.socket) -> Iterator[ProcessSpec]:
    """Each request until the channel closes; while there is none, prepares for the next ones.

    Requests for warm processes wait until that is done, so that these have all of it.
    """
    poll = select.poll()
    poll.register(link, select.POLLIN)
    preparing, waiting = _prepare(), list[ProcessSpec]()
    patience: int | None = QUIET
    while True:
        if poll.poll(patience):
            spec = ProcessSpec.receive(link)
            if spec is None:
                return
            if spec.warm and patience is not None:
                waiting.append(spec)
                patience = 0
            else:
                yield spec
        elif next(preparing, False):
            patience = 0
        else:
            patience = None
            yield from waiting
            waiting = []


def _prepare() -> Iterator[bool]:
    """Take the steps that replicas can do without; yields True after each."""
    try:
        for _ in warmup.steps():
            yield True
    except Exception:  # noqa: BLE001 - a library may raise anything, and replicas still start
        traceback.print_exc()


def _preload(names: Sequence[str]) -> tuple[str, Threads]:
    """Import the runtime and what `names` stand for; returns why nothing may be forked, or ''."""
    none = Threads((), 1)
    try:
        from sluice.runtime.main import preload  # noqa: PLC0415 - a cold start isolates first

        preload()
        for module in resolved(names):
            importlib.import_module(module)
    except Exception as error:  # noqa: BLE001 - a library may raise anything at import
        return f"{type(error).__name__} at import: {error}", none
    if started := _threads():
        return f"{started} threads were started at import", none
    setters = tuple(warmup.find_thread_setters())
    threads = Threads(setters, warmup.spread(setters))
    if kept := _threads():
        return f"{kept} threads of its numeric libraries outlive a fork", none
    return "", threads


def _threads() -> int:
    """Threads of this process beside the main one."""
    return sum(1 for _ in Path("/proc/self/task").iterdir()) - 1


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
        return False  # its package is absent


def _normal(distribution: str) -> str:
    return re.sub(r"[-_.]+", "-", distribution).lower()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
