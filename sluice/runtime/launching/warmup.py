"""Prepares a zygote beyond its imports, so that replicas start sooner.

Numbers are for `predict` on two cores, from the call to its first byte.
"""

import ctypes
import gc
import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

SetThreads = Callable[[int], object]

# What handlers import and the runtime does not, so that every fork has it loaded, and the page of
# metrics, which is rendered at the first scrape.
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
    "sluice.runtime.serving.exposition",
)
# Parts that a library imports only when they are used.
LATE: Final = {"numpy": ("numpy.random", "numpy.typing")}
THREAD_SETTERS: Final = (
    "openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "scipy_openblas_set_num_threads64_",
    "omp_set_num_threads",
    "MKL_Set_Num_Threads",
)
THREADED_LIBRARY: Final = re.compile(r"(/\S*(?:openblas|libgomp|libiomp|libomp|mkl_rt)\S*)$")
# An ONNX model of one Identity node, opset 13: float x [1] to float y [1].
IDENTITY: Final = (
    b'\x08\x08:7\n\x10\n\x01x\x12\x01y"\x08Identity\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12'
    b"\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)


class Threads(NamedTuple):
    """What sets the threads of numeric libraries, and how many a fork uses until it is called."""

    setters: Sequence[SetThreads]
    initial: int


def find_thread_setters() -> list[SetThreads]:
    """The functions that set how many threads the loaded numeric libraries use."""
    matches = map(THREADED_LIBRARY.search, Path("/proc/self/maps").read_text().splitlines())
    libraries = [ctypes.CDLL(path) for path in {match[1] for match in matches if match}]
    return [
        getattr(library, name)
        for library in libraries
        for name in THREAD_SETTERS
        if hasattr(library, name)
    ]


def set_threads(setters: Sequence[SetThreads], count: int) -> None:
    """Have forks of this process use `count` threads.

    OpenBLAS starts them here at once, ends them at the next fork and starts them in the fork when
    it first needs them. Set in the replica, they spun while it imported its handler: setting them
    here took a start from 96 ms to 74.
    """
    for setter in setters:
        setter(count)


def spread(setters: Sequence[SetThreads]) -> int:
    """Have forks use a thread for each core of this process; returns how many. None runs here."""
    count = len(os.sched_getaffinity(0))
    if count > 1 and setters:
        set_threads(setters, count)
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    return count if setters else 1


def steps() -> Iterator[None]:
    """Prepare in small steps: between two of them a replica may be requested."""
    late = [name for library, names in LATE.items() if library in sys.modules for name in names]
    for name in (*STANDARD, *late):
        importlib.import_module(name)
        yield
    if "onnxruntime" in sys.modules:
        run_model()
        yield
    # What is loaded stays: a collection in a child would copy its pages to no effect.
    gc.collect()
    gc.freeze()


def run_model() -> None:
    """Run a first session, in which onnxruntime sets itself up: 7 ms of a start become 2."""
    runtime: Any = sys.modules["onnxruntime"]
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = False
    session = runtime.InferenceSession(IDENTITY, options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": _one()})


def _one() -> Any:
    numpy: Any = sys.modules["numpy"]
    return numpy.ones(1, numpy.float32)
