"""Compares two checkouts whose platforms run at the same time: `python -m bench.side_by_side OLD`.

Each side is installed in its checkout's `.venv`, deploys stack.yml and trains the quickstart's
models; then short slices of the same load alternate between the two, so that a machine whose speed
drifts slows both. Calls, starts from zero and accepted asynchronous calls; the table is that of
`bench.paired`, and so is the exit code. `bench.paired` compares whole suites and takes an hour,
this takes a few minutes.
"""

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from bench.paired import WORSE, Compared, lines
from bench.slices import LoadTarget, interleave
from bench.stage import ALIAS, MODEL, Stage, StageError, client
from bench.suites.calls import body_of_row
from bench.suites.starts import Caller
from bench.wrk import WrkRequest, load
from testbed.platform import ROOT, LivePlatform, describe_platform

CONNECTIONS: Final = (1, 16, 64)
SECONDS: Final = 2.0
STARTS: Final = 8
PENDING: Final = "queue_worker_pending_messages{"
Pair = dict[str, Stage]


@contextmanager
def running(checkout: Path, folder: Path) -> Iterator[Stage]:
    """The platform of a checkout, with the functions of stack.yml and the quickstart's models."""
    platform = describe_platform(folder / "data", SLUICE_LOG_LEVEL="warning")
    try:
        _run(checkout, platform, "sluice", "up", "-f", "stack.yml")
        _run(checkout, platform, "examples.quickstart", platform.url, str(platform.password_file))
        with client(platform) as api:
            stage = Stage(platform, api, folder, lambda _: None)
            _name_a_forest(stage)
            stage.deploy_predict("predict-one")
            stage.deploy("echo-one", "sluice/echo:latest")
            yield stage
    finally:
        _run(checkout, platform, "sluice", "down")


def _run(checkout: Path, platform: LivePlatform, module: str, *arguments: str) -> None:
    python = str(checkout / ".venv/bin/python")
    done = subprocess.run(  # noqa: S603 - our own programs
        [python, "-m", module, *arguments],
        cwd=checkout,
        env=dict(platform.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StageError(f"{checkout}: {module} failed: {done.stdout}{done.stderr}")


def _name_a_forest(stage: Stage) -> None:
    """Give the newest version of the model the alias that `deploy_predict` serves."""
    with stage.platform.client() as http:
        found = http.get(f"/registry/models/{MODEL}").raise_for_status().json()
        body = {"version": found["latest"]}
        http.put(f"/registry/models/{MODEL}/aliases/{ALIAS}", json=body).raise_for_status()


def calls(sides: Pair, request: WrkRequest, rounds: int) -> Iterator[Compared]:
    """Rates of predict and echo, and the gateway's processor time a call."""
    for function, counts in (("predict-one", CONNECTIONS), ("echo-one", CONNECTIONS[-1:])):
        for count in counts:
            targets = {
                name: LoadTarget(side.calls(function), request, side.gateway)
                for name, side in sides.items()
            }
            seen = interleave(targets, count, rounds, SECONDS)
            old, new = seen["old"], seen["new"]
            what = f"{function}, {count} connections"
            yield _compared("calls", what, old.rates, new.rates, "calls/s")
            yield _compared("calls", f"{what}, gateway's CPU", old.cpu, new.cpu, "us")


def starts(sides: Pair, rounds: int) -> Iterator[Compared]:
    """Milliseconds from zero to the first byte with a live zygote: medians of each round."""
    callers = {name: Caller(side.calls("predict-one")) for name, side in sides.items()}
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        single: dict[str, list[float]] = {name: [] for name in sides}
        for _ in range(STARTS):
            for name, side in sides.items():
                side.scale("predict-one", 0)
                status, seconds = callers[name]()
                if status != 200:
                    raise StageError(f"{name}: a start answered {status}")
                single[name].append(seconds * 1000)
        if turn:
            for name in sides:
                taken[name].append(statistics.median(single[name]))
    yield _compared("starts", "0 to 1, live zygote", taken["old"], taken["new"], "ms")


def asynchronous(sides: Pair, request: WrkRequest, rounds: int) -> Iterator[Compared]:
    """Accepted calls a second at 64 connections; each side executes its calls before the next."""
    rates: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, side in sides.items():
            done = load(f"{side.url}/async-function/echo-one", request, CONNECTIONS[-1], SECONDS)
            if turn:
                rates[name].append(done.rate)
            _drain(side)
    yield _compared("asynchronous", "accepted, 64 connections", rates["old"], rates["new"], "/s")


def _drain(side: Stage) -> None:
    """Return when no call is pending."""
    while True:
        text = httpx.get(f"{side.platform.metrics_url}/metrics", timeout=10).text
        waiting = re.findall(rf"^{re.escape(PENDING)}.* ([0-9.e+]+)$", text, re.MULTILINE)
        if not any(float(count) for count in waiting):
            return
        time.sleep(0.1)  # a gauge is read, it tells nobody


def _compared(suite: str, name: str, old: list[float], new: list[float], unit: str) -> Compared:
    sign = 1 if unit.endswith("/s") else -1
    ratios = tuple((mine / other) ** sign for other, mine in zip(old, new, strict=True))
    return Compared(suite, name, statistics.median(old), statistics.median(new), unit, ratios)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("old", type=Path)
    parser.add_argument("--rounds", type=int, default=9)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sluice-sides-") as name, ExitStack() as stack:
        folder = Path(name)
        request = WrkRequest.write(folder / "predict.lua", [body_of_row()])
        sides = {}
        for side, checkout in (("old", given.old.resolve()), ("new", ROOT)):
            (folder / side).mkdir()
            sides[side] = stack.enter_context(running(checkout, folder / side))
        rows = [*calls(sides, request, given.rounds), *starts(sides, given.rounds)]
        rows += asynchronous(sides, request, given.rounds)
    sys.stdout.write("\n".join(lines(rows)) + "\n")
    return 1 if any(row.interval()[2] < WORSE for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
