"""Measures everything that has a target, each beside its control in the same run.

`python -m bench.run [SUITE ...]`: all suites, or those named. Writes bench/results/latest.json (of
all suites only; --output names another file), prints the table, and exits 1 when a row misses its
target, 2 when something that is needed is missing.
"""

import argparse
import logging
import shutil
import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from bench.machine import commit, machine
from bench.results import LATEST, Suites, missed, table, write
from bench.rows import Row
from bench.stage import Stage, open_stage
from testbed.platform import ROOT

SUITES: Final = (
    *("calls", "bento", "bodies", "starts", "batches"),
    *("asynchronous", "kafka", "pipelines", "crowd", "scaling"),
)
NEEDED: Final = {"wrk": "wrk", "nginx": "nginx", "cc": "build-essential"}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("suites", nargs="*", metavar="SUITE", help=f"of {', '.join(SUITES)}")
    parser.add_argument("--output", type=Path, help="file for the results")
    given = parser.parse_args(arguments)
    unknown = [name for name in given.suites if name not in SUITES]
    if unknown:
        parser.error(f"unknown suite {unknown[0]!r}: expected one of {', '.join(SUITES)}")
    absent = [package for name, package in NEEDED.items() if not _program(name)]
    if absent:
        _say(f"missing: {', '.join(absent)}; install it with the system's package manager")
        return 2
    return _measure(given.suites or list(SUITES), given.output)


def _stopped(number: int, _frame: object) -> None:
    """End as if interrupted, so that the platforms are stopped."""
    sys.exit(128 + number)


def _measure(names: list[str], output: Path | None) -> int:
    signal.signal(signal.SIGTERM, _stopped)
    begun = time.monotonic()
    about: dict[str, Any] = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(ROOT),
        "machine": machine(),
    }
    with open_stage(_say) as stage:
        suites: Suites = {}
        for name in names:
            _say(f"suite {name}")
            suites[name] = _rows(name, stage)
            sys.stdout.write(table(suites[name]))
            sys.stdout.flush()
    about["seconds"] = round(time.monotonic() - begun)
    whole = set(names) == set(SUITES)
    if output is not None or whole:
        write(output or LATEST, about, suites)
    failed = [row for rows in suites.values() for row in missed(rows)]
    _say(f"{len(failed)} rows missed their target, {about['seconds']} s")
    return 1 if failed else 0


def _rows(name: str, stage: Stage) -> list[Row]:
    """The rows of a suite; one that says so where it fails, so that the others still tell."""
    try:
        return _suite(name)(stage)
    except Exception as error:
        logging.getLogger("bench").exception("suite %s failed", name)
        return [Row(f"suite {name}", 0, "rows", target="to run", ok=False, note=str(error))]


def _suite(name: str) -> Callable[[Stage], list[Row]]:
    run: Callable[[Stage], list[Row]] = import_module(f"bench.suites.{name}").run
    return run


def _program(name: str) -> bool:
    return shutil.which(name) is not None or Path("/usr/sbin", name).exists()


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
