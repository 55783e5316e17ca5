"""The process that reads one upload: one job line on stdin, one JSON line on stdout."""

import contextlib
import json
import os
import resource
import sys
import threading

from registry.datasets.job import Job, RefusedError
from registry.datasets.table import read_table


def main() -> int:
    """Read the job and write its result; exit at once when the registry closes stdin."""
    job = Job.from_line(sys.stdin.buffer.readline())
    # Limits the size of each written file: a table may be far larger than its metadata says.
    resource.setrlimit(resource.RLIMIT_FSIZE, (job.table_bytes, job.table_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    threading.Thread(target=_end_with_the_registry, daemon=True).start()
    try:
        response = read_table(job)
    except RefusedError as error:
        response = {"refused": str(error), "status": error.status}
    sys.stdout.buffer.write(json.dumps(response, allow_nan=False).encode() + b"\n")
    sys.stdout.buffer.flush()
    # Not sys.exit: the watch thread blocks in a read, and interpreter shutdown would wait for it.
    os._exit(0)


def _end_with_the_registry() -> None:
    with contextlib.suppress(OSError):
        os.read(sys.stdin.fileno(), 1)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
