"""Compiles a folder's modules ahead of their first import: `bytecode.py FOLDER PART PARTS`.

A script of its own, run once per processor: in the gateway's process it would delay calls. Neither
the environment's interpreter nor its .pth files are run: nothing of a wheel executes here.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from py_compile import PycInvalidationMode, PyCompileError
from py_compile import compile as compile_module
from typing import Final

# 941 of the 3,495 modules of scikit-learn, skl2onnx and onnxruntime with what they need, and half
# the time to compile them (7.6 s of one processor against 3.8 s).
NEVER_IMPORTED: Final = frozenset({"tests"})


def compile_folder(folder: Path, part: int = 0, parts: int = 1) -> None:
    """Write the bytecode of every `parts`-th module below `folder`, from number `part` on.

    Modules that do not compile stay as they are: libraries carry some for other versions. The
    bytecode is never checked against its source again, since neither may change.
    """
    for number, path in enumerate(_modules(folder)):
        if number % parts == part:
            try:
                compile_module(
                    str(path), doraise=True, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH
                )
            except (PyCompileError, RecursionError, ValueError, MemoryError):
                continue


def _modules(folder: Path) -> Iterator[Path]:
    for parent, names, files in os.walk(folder):
        names[:] = sorted(set(names) - NEVER_IMPORTED)
        yield from (Path(parent) / name for name in sorted(files) if name.endswith(".py"))


if __name__ == "__main__":
    compile_folder(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
