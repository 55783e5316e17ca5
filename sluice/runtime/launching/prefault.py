"""Writes, in a warm process, to the pages that every start writes to.

A fork shares its zygote's pages until it writes to them, and each copy takes 5 us: the import of
`predict` made 1,260 of them and makes 500 after this, which saves 5 of its 17 ms. It costs a warm
process 10 ms and 5 MiB, most of which the replica would have needed anyway.
"""

import asyncio
import importlib
import sys
import threading
from dataclasses import dataclass
from typing import Final, NamedTuple

from sluice.runtime.launching import warmup

# Modules that hardly any handler uses: importing them touches the pages that imports touch.
UNNEEDED: Final = ("cmd", "code", "codeop", "pprint", "sched")


def prefault() -> None:
    """Import, make types, start a thread, run a loop and a model, and keep none of it."""
    for name in UNNEEDED:
        if name not in sys.modules:
            importlib.import_module(name)
            del sys.modules[name]
    _make_types()
    thread = threading.Thread(target=_nothing)
    thread.start()
    thread.join()
    # Not uvloop: libuv keeps descriptors for as long as the process lives, and specializing closes
    # all of them. A command that the replica started later then ended it by SIGSEGV.
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        runner.run(asyncio.sleep(0))
    if "onnxruntime" in sys.modules:
        warmup.run_model()


def _make_types() -> None:
    @dataclass(frozen=True, slots=True)
    class _Value:
        number: int
        text: str = ""

    class _Pair(NamedTuple):
        number: int
        text: str = ""


def _nothing() -> None:
    pass
