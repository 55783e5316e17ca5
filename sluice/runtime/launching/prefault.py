"""Does in a spare, before anybody waits, what every start does.

A fork shares its zygote's pages until it writes to them, and each copy takes 5 us: the import of
`predict` made 1,260 of them, after this it makes 500, for 5 of its 17 ms. It takes a spare 10 ms
and 5 MiB, most of which the replica would have needed anyway.
"""

import asyncio
import importlib
import sys
import threading
from dataclasses import dataclass
from typing import Final, NamedTuple

from sluice.runtime.launching import warmup

# Modules that no handler is likely to have a use for, imported for the sake of importing.
UNNEEDED: Final = ("cmd", "code", "codeop", "pprint", "sched")


def prefault() -> None:
    """Import, make types, start a thread, run a loop and a model; nothing of it is kept."""
    for name in UNNEEDED:
        if name not in sys.modules:
            importlib.import_module(name)
            del sys.modules[name]
    _make_types()
    thread = threading.Thread(target=_nothing)
    thread.start()
    thread.join()
    # Not uvloop's: libuv keeps descriptors for as long as the process lives, the order closes all
    # of them, and a command that the replica started later ended it by SIGSEGV.
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
