"""The modules that a call, a cold start and a Kafka record pass through: the hops of a reader.

`python -m bench.hops [--markdown] [--functions]` prints each list in the order of first entry.

A hop is a module of this repository (tests, testbed, bench and handlers excepted) of which a
function is called between the two marks of a flow, on the main thread, which runs the event loop,
of the processes that the flow names. Modules of other threads and other processes are listed and
not counted. That rule gives the 19, 19 and 11 that the counts began with:

- call: gateway and replica, from the first byte of a POST on an open connection to the return of
  an async `handle(event, context)`. Counted over a head that is known again and one of which
  nothing is: host, target and a header's name are new.
- start: the gateway, from the provider's `scale` from 0 to 1 to its event that the replica is
  ready, where a zygote lives. Counted over a start from a spare and one by a fork. What leads to
  `scale` belongs to the call; zygote, intermediate and replica are listed.
- record: triggers, from a record's publication to its committed offset, one call a record. The
  consumer's own thread is listed.

Each is repeated, and a module counts that is entered in more than half of the rounds, since timers
fire meanwhile. A coroutine that goes on is not entered. Real processes are recorded by
`bench/probe`, of which the product knows nothing.
"""

import argparse
import asyncio
import json
import mmap
import os
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kafka.errors import RetriableError

from bench.stage import Stage, client, platform_on
from gateway.providers.embedded import EmbeddedProvider
from gateway.types.ids import FunctionId
from testbed.embedded import Watcher, asked, build, make_bundles, settings_of
from testbed.kafka import KafkaBroker, why_not
from testbed.platform import ROOT

# The most that each flow may take; tests/bench/test_hops.py holds them.
BOUNDS: Final = {"call": 13, "start": 11, "record": 8}
PROCESSES: Final = {
    "call": frozenset({"gateway", "replica"}),
    "start": frozenset({"gateway"}),
    "record": frozenset({"triggers"}),
}
MARKS: Final = {
    "call": "from the first byte to the handler's return",
    "start": "from the wake to the replica's readiness",
    "record": "from the poll to the committed offset",
}
ROUNDS: Final = 7
WARM_UP: Final = 4
# What a gateway does after the last byte of a response, of which no client hears.
SETTLE_SECONDS: Final = 0.1
# A spare is made 0.1 s after the last start and then prepares itself; nothing tells when it has.
SPARE_SECONDS: Final = 1.0
PATIENCE: Final = 60.0
PROBE: Final = ROOT / "bench" / "probe"
PART_BYTES: Final = 2 << 20  # as the probe has it
EXCEPTED: Final = (".venv", "bench", "testbed", "tests")
ECHO: Final = "async def handle(event, context):\n    return event.json()\n"
BODY: Final = b'{"n": 1}'
TOPIC: Final = "hops"
MODULE: Final = "bench.hops"
FORKED: Final = ("zygote", "intermediate", "replica")


Place = tuple[str, str, str]  # process, thread, module


class HopsError(Exception):
    """A flow could not be recorded."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A function that ran. file: "" is the mark of the handler's return. at: nanoseconds."""

    number: int
    at: int
    process: str
    thread: str
    file: str
    function: str


@dataclass(frozen=True, slots=True)
class Visit:
    """A module on one thread of a process, with its functions in the order of first entry."""

    process: str
    thread: str
    module: str
    functions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Flow:
    """What ran between the marks. visits: in the order of first entry, process by process."""

    name: str
    visits: tuple[Visit, ...]

    @property
    def hops(self) -> list[str]:
        """The modules that count."""
        counted = [visit.module for visit in self.visits if self.counts(visit)]
        return list(dict.fromkeys(counted))

    def counts(self, visit: Visit) -> bool:
        """Whether a visit's module is one of the hops."""
        return visit.thread == "main" and visit.process in PROCESSES[self.name]


class Probe:
    """The probe in a folder of its own; programs with `path` on PYTHONPATH are recorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._control = path / "control"
        self._numbers = 0

    @classmethod
    def copy_to(cls, path: Path) -> "Probe":
        """A new one at `path`, which is made."""
        path.mkdir(parents=True)
        shutil.copy(PROBE / "sitecustomize.py", path)
        (path / "control").write_bytes(b"\0")
        return cls(path)

    @contextmanager
    def round(self) -> Iterator[int]:
        """Record what runs within; yields the number of the round."""
        self._numbers += 1
        self._set(self._numbers)
        try:
            yield self._numbers
        finally:
            self._set(0)

    def entries(self) -> Iterator[Entry]:
        """What was recorded so far."""
        for path in sorted(self.path.glob("*.trace")):
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
            ):
                for start in range(0, len(text), PART_BYTES):
                    end = text.find(b"\0", start)
                    yield from _entries(text[start:end].decode())

    def _set(self, number: int) -> None:
        with self._control.open("rb+") as control:
            control.write(bytes([number]))


def _entries(part: str) -> Iterator[Entry]:
    who, _, lines = part.partition("\n")
    if not who:
        return
    process = _process(*who.split("\t", 1))
    for line in lines.splitlines():
        number, at, thread, file, function = line.split("\t")
        yield Entry(int(number), int(at), process, thread, file, function)


def _process(forks: str, command: str) -> str:
    """What a process is: a program's module; what a zygote forks is no program of its own."""
    if "zygote" in command:
        return FORKED[min(int(forks), len(FORKED) - 1)]
    found = re.search(r" -m (\S+)", command)
    module = found[1] if found else command
    return "gateway" if module == MODULE else module


def measure_call(stage: Stage, probe: Probe) -> Flow:
    """The flow of a call on a running platform."""
    image = stage.build("hops", ECHO)
    stage.deploy("hops", image, envVars={"PYTHONPATH": str(probe.path)})
    with _connected(stage.url) as connection:
        for _ in range(WARM_UP):
            _call(connection, "host", "hops")
        numbers: dict[str, list[int]] = {"known": [], "new": []}
        for turn in range(ROUNDS):
            time.sleep(SETTLE_SECONDS)
            with probe.round() as number:
                _call(connection, "host", "hops")
            numbers["known"].append(number)
            time.sleep(SETTLE_SECONDS)
            with probe.round() as number:
                _call(connection, f"host{turn}", f"hops?n={turn}", f"X-N{turn}: 1\r\n")
            numbers["new"].append(number)
    return _flow("call", probe, stage.platform.data_dir, list(numbers.values()))


def _call(connection: socket.socket, host: str, target: str, lines: str = "") -> None:
    head = (
        f"POST /function/{target} HTTP/1.1\r\nHost: {host}\r\n{lines}"
        f"Content-Type: application/json\r\nContent-Length: {len(BODY)}\r\n\r\n"
    )
    connection.sendall(head.encode() + BODY)
    response = b""
    while b"\r\n\r\n" not in response or not response.endswith(BODY.replace(b" ", b"")):
        received = connection.recv(65536)
        if not received:
            raise HopsError(f"the call failed: {response!r}")
        response += received


@contextmanager
def _connected(url: str) -> Iterator[socket.socket]:
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), PATIENCE) as connection:
        yield connection


def measure_record(stage: Stage, probe: Probe, broker: KafkaBroker) -> Flow:
    """The flow of a record on a running platform that knows the broker."""
    broker.create(TOPIC)
    image = stage.build("hops", ECHO)
    stage.deploy("hops-record", image, annotations={"topic": TOPIC})
    numbers: list[int] = []
    for turn in range(WARM_UP + ROUNDS):
        with probe.round() as number:
            broker.publish(TOPIC, [BODY])
            _await_commit(broker, turn + 1)
        numbers.append(number)
    return _flow("record", probe, stage.platform.data_dir, [numbers[WARM_UP:]])


def _await_commit(broker: KafkaBroker, offset: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            committed = broker.committed(f"sluice.openfaas-fn.{TOPIC}-record")
        except RetriableError:  # the first group has the broker make its topic of offsets
            committed = {}
        if committed.get((TOPIC, 0), 0) >= offset:
            return
        time.sleep(0.02)  # a group's offsets are read, they tell nobody
    raise HopsError(f"offset {offset} was not committed")


def measure_start(folder: Path) -> Flow:
    """The flow of a start, by an embedded provider in a process of its own."""
    probe = Probe.copy_to(folder / "probe")
    done = subprocess.run(  # noqa: S603 - this module
        [sys.executable, "-m", MODULE, "--starts", str(folder)],
        env={**os.environ, "PYTHONPATH": str(probe.path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise HopsError(f"no start could be recorded: {done.stderr}")
    return _flow("start", probe, folder / "data", json.loads(done.stdout))


async def _start_often(probe: Probe, data_dir: Path) -> list[list[int]]:
    """Start and stop a replica; the rounds of those from a spare and of those by a fork."""
    bundles = make_bundles(data_dir)
    build(bundles, "hops", ECHO)
    provider = EmbeddedProvider(settings_of(data_dir), bundles)
    await provider.start()
    watcher, function = Watcher(provider), FunctionId("hops")
    numbers: list[list[int]] = []
    try:
        await provider.deploy(asked("hops", env_vars={"PYTHONPATH": str(probe.path)}))
        await watcher.ready("hops")
        for pause in (SPARE_SECONDS, 0.0):
            numbers.append([])
            for _ in range(ROUNDS):
                await provider.scale(function, 0)
                await watcher.ready("hops", 0)
                await asyncio.sleep(pause)
                with probe.round() as number:
                    await provider.scale(function, 1)
                    await watcher.ready("hops")
                numbers[-1].append(number)
    finally:
        await provider.close()
    return numbers


def _flow(name: str, probe: Probe, data_dir: Path, kinds: Sequence[Sequence[int]]) -> Flow:
    """What ran in more than half of the rounds of any of the kinds."""
    rounds: dict[int, list[Entry]] = {number: [] for kind in kinds for number in kind}
    for entry in sorted(probe.entries(), key=lambda entry: entry.at):
        if entry.number in rounds:
            rounds[entry.number].append(entry)
    began: dict[Place, int] = {}
    functions: dict[Place, dict[str, None]] = {}
    for kind in kinds:
        times: dict[Place, list[int]] = {}
        for number in kind:
            entries = rounds[number] if name != "call" else _until_handled(rounds[number])
            visited: dict[Place, int] = {}
            for entry in entries:
                if module := _module(entry.file, data_dir):
                    place = entry.process, entry.thread, module
                    visited.setdefault(place, entry.at - entries[0].at)
                    functions.setdefault(place, {})[entry.function] = None
            for place, at in visited.items():
                times.setdefault(place, []).append(at)
        for place, ats in times.items():
            if 2 * len(ats) > len(kind):
                began[place] = min(statistics.median_low(ats), began.get(place, sys.maxsize))
    order = sorted(began, key=began.__getitem__)
    return Flow(name, tuple(Visit(*place, tuple(functions[place])) for place in order))


def _until_handled(entries: list[Entry]) -> list[Entry]:
    ends = [entry.at for entry in entries if not entry.file]
    if not ends:
        raise HopsError("a call did not reach its handler")
    return [entry for entry in entries if entry.at < ends[0] and entry.file]


def _module(file: str, data_dir: Path) -> str:
    """The dotted name of a file of this repository, or of its copy in a data folder; else ""."""
    path = Path(file)
    if path.is_relative_to(data_dir):
        parts = path.relative_to(data_dir).parts
        tails = (Path(*parts[start:]) for start in range(len(parts)))
        inside = next((tail for tail in tails if (ROOT / tail).is_file()), None)
    else:
        inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
    if inside is None or inside.parts[0] in EXCEPTED:
        return ""
    return ".".join(inside.with_suffix("").parts)


def _text(flow: Flow, *, functions: bool) -> str:
    """The modules process by process, those that count with a number."""
    lines = [f"{flow.name}: {len(flow.hops)} hops {MARKS[flow.name]}"]
    numbers = {module: number for number, module in enumerate(flow.hops, 1)}
    for process, thread in dict.fromkeys((visit.process, visit.thread) for visit in flow.visits):
        lines.append(f"  {process}" + ("" if thread == "main" else ", other threads"))
        for visit in flow.visits:
            if (visit.process, visit.thread) == (process, thread):
                number = numbers[visit.module] if flow.counts(visit) else "-"
                observed = f": {', '.join(visit.functions)}" if functions else ""
                lines.append(f"    {number:>2} {visit.module}{observed}")
    return "\n".join(lines)


def markdown(flows: Sequence[Flow]) -> str:
    """A table for the documentation: the hops of each flow in the order of first entry."""
    lines = ["| flow | hops | modules in the order of first entry |", "|---|---|---|"]
    for flow in flows:
        names = ", ".join(f"`{module}`" for module in flow.hops)
        lines.append(f"| {flow.name}, {MARKS[flow.name]} | {len(flow.hops)} | {names} |")
    return "\n".join(lines)


@contextmanager
def recorded_platform(folder: Path, broker: KafkaBroker | None) -> Iterator[tuple[Stage, Probe]]:
    """A platform whose programs are recorded, and which knows the broker where there is one."""
    probe = Probe.copy_to(folder / "probe")
    settings = {"PYTHONPATH": str(probe.path)}
    if broker is not None:
        # The lag is measured on a timer of its own: no part of a record's way.
        settings |= {"KAFKA_BOOTSTRAP": broker.bootstrap}
        settings |= {"SLUICE_TRIGGERS_KAFKA_SIGNAL_INTERVAL": "1h"}
    with platform_on(folder / "data", **settings) as platform, client(platform) as api:
        yield Stage(platform, api, folder, lambda _: None), probe


def measure(folder: Path) -> list[Flow]:
    """Every flow that this machine can run: a record needs Java and Maven."""
    flows = [measure_start(folder / "start")]
    with ExitStack() as opened:
        broker = None
        if not why_not():
            (folder / "kafka").mkdir()
            broker = KafkaBroker(folder / "kafka")
            opened.callback(broker.stop)
            broker.start()
        (folder / "calls").mkdir()
        stage, probe = opened.enter_context(recorded_platform(folder / "calls", broker))
        flows.insert(0, measure_call(stage, probe))
        if broker is not None:
            flows.append(measure_record(stage, probe, broker))
    return flows


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--markdown", action="store_true", help="a table for the documentation")
    parser.add_argument("--functions", action="store_true", help="list each module's functions")
    parser.add_argument("--starts", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.starts is not None:
        folder: Path = given.starts
        numbers = asyncio.run(_start_often(Probe(folder / "probe"), folder / "data"))
        sys.stdout.write(json.dumps(numbers))
        return 0
    with tempfile.TemporaryDirectory(prefix="sluice-hops-") as name:
        flows = measure(Path(name))
    if given.markdown:
        text = markdown(flows)
    else:
        text = "\n\n".join(_text(flow, functions=given.functions) for flow in flows)
    sys.stdout.write(f"{text}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
