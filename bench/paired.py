"""Compares two checkouts by whole suites: `python -m bench.paired OLD [NEW] --suites calls starts`.

Each round runs the suites in both checkouts, each with its own `.venv`, in turns (old new, new
old, ...), because a machine's speed drifts. A row with a control in its run is compared by its
ratio to that control, any other by its value, so that above 1 always means that NEW is better. The
table gives the geometric mean of the rounds' ratios with its 95 % interval (Student's t on the
logarithms); the exit code is 1 when an interval lies below 0.98.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.results import read
from bench.rows import Row

# Two-sided 95 % points of Student's t by degrees of freedom.
STUDENT: Final = {1: 12.71, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}
NORMAL: Final = 1.96
WORSE: Final = 0.98
# Of these units more is better; of seconds, bytes and everything else less is.
RATES: Final = ("/s",)


@dataclass(frozen=True, slots=True)
class Compared:
    """One row of both checkouts. ratios: new to old by round, above 1 where new is better."""

    suite: str
    name: str
    old: float
    new: float
    unit: str
    ratios: tuple[float, ...]

    def interval(self) -> tuple[float, float, float]:
        """Geometric mean of the ratios and the ends of its 95 % interval."""
        logs = [math.log(ratio) for ratio in self.ratios]
        mean = statistics.fmean(logs)
        if len(logs) < 2:
            return math.exp(mean), 0.0, math.inf
        student = STUDENT.get(len(logs) - 1, NORMAL)
        half = student * statistics.stdev(logs) / math.sqrt(len(logs))
        return math.exp(mean), math.exp(mean - half), math.exp(mean + half)


def figure(row: Row) -> float:
    """What is compared of a row: its ratio to the control of its run, else its value."""
    return row.value if row.ratio is None else row.ratio


def more_is_better(row: Row) -> bool:
    """By the target where there is one, else by the unit."""
    if row.target:
        return row.target.startswith(">=")
    return row.unit.endswith(RATES)


def compare(rounds: Sequence[tuple[dict[str, list[Row]], dict[str, list[Row]]]]) -> list[Compared]:
    """rounds: suites of old and of new. Rows that not every run has are left out."""
    found: dict[tuple[str, str], list[tuple[Row, Row]]] = {}
    for old, new in rounds:
        for suite, rows in old.items():
            others = {row.name: row for row in new.get(suite, [])}
            for row in rows:
                if row.name in others and figure(row) > 0 and figure(others[row.name]) > 0:
                    found.setdefault((suite, row.name), []).append((row, others[row.name]))
    return [
        _compared(suite, name, pairs)
        for (suite, name), pairs in found.items()
        if len(pairs) == len(rounds)
    ]


def _compared(suite: str, name: str, pairs: list[tuple[Row, Row]]) -> Compared:
    sign = 1 if more_is_better(pairs[0][0]) else -1
    ratios = tuple((figure(new) / figure(old)) ** sign for old, new in pairs)
    old = statistics.median(row.value for row, _ in pairs)
    new = statistics.median(row.value for _, row in pairs)
    return Compared(suite, name, old, new, pairs[0][0].unit, ratios)


def measured(checkout: Path, suites: Sequence[str], folder: Path) -> dict[str, list[Row]]:
    """The rows of one run in a checkout. Raises CalledProcessError when it cannot run."""
    output = folder / "rows.json"
    output.unlink(missing_ok=True)
    python = str(checkout / ".venv/bin/python")
    command = [python, "-m", "bench.run", "--output", str(output), *suites]
    done = subprocess.run(  # noqa: S603 - our own benchmark
        command, cwd=checkout, stdout=subprocess.DEVNULL, check=False
    )
    if not output.exists():
        raise subprocess.CalledProcessError(done.returncode, "bench.run")
    return read(output)[1]


def lines(rows: Sequence[Compared]) -> Iterator[str]:
    """The comparison as Markdown."""
    yield "| suite | row | old | new | unit | new/old | 95 % interval | |"
    yield "|---|---|---|---|---|---|---|---|"
    for row in rows:
        mean, low, high = row.interval()
        verdict = "worse" if high < WORSE else ""
        yield (
            f"| {row.suite} | {row.name} | {row.old:g} | {row.new:g} | {row.unit} |"
            f" {mean:.3f} | {low:.3f} to {high:.3f} | {verdict} |"
        )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path, nargs="?", default=Path.cwd())
    parser.add_argument("--suites", nargs="+", default=["calls", "starts", "asynchronous"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="file for the ratios as JSON")
    given = parser.parse_args(arguments)
    rounds, rows = [], list[Compared]()
    with tempfile.TemporaryDirectory(prefix="sluice-paired-") as name:
        for number in range(given.rounds):
            both = [given.old.resolve(), given.new.resolve()]
            order = both if number % 2 == 0 else both[::-1]
            found = {path: measured(path, given.suites, Path(name)) for path in order}
            rounds.append((found[both[0]], found[both[1]]))
            rows = compare(rounds)
            sys.stdout.write(f"\nafter round {number + 1}\n" + "\n".join(lines(rows)) + "\n")
            sys.stdout.flush()
    if given.output:
        document = [{"suite": r.suite, "row": r.name, "ratios": r.ratios} for r in rows]
        given.output.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(row.interval()[2] < WORSE for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
