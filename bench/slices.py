"""Slices of load that alternate between ourselves and peers, since a machine's speed swings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.processes import cpu_seconds
from bench.wrk import Load, WrkRequest, load


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """One side of a comparison. pid: the process whose time is counted, 0 for none."""

    url: str
    request: WrkRequest
    pid: int = 0


@dataclass(slots=True)
class Slices:
    """What each slice saw, in order. cpu: microseconds of the target's process a call."""

    loads: list[Load] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        return [seen.rate for seen in self.loads]

    @property
    def p50(self) -> list[float]:
        """Milliseconds."""
        return [seen.p50 * 1000 for seen in self.loads]

    @property
    def p99(self) -> list[float]:
        """Milliseconds."""
        return [seen.p99 * 1000 for seen in self.loads]


def interleave(
    targets: Mapping[str, LoadTarget],
    connections: int,
    rounds: int,
    seconds: float = 1,
    into: Mapping[str, Slices] | None = None,
) -> dict[str, Slices]:
    """`rounds` slices of each target, one after the other in turn; a first round warms up.

    into: slices of earlier sessions, to which these are added.
    """
    seen = dict(into) if into else {name: Slices() for name in targets}
    for turn in range(rounds + 1):
        for name, target in targets.items():
            before = cpu_seconds(target.pid) if target.pid else 0.0
            done = load(target.url, target.request, connections, seconds)
            if turn:
                used = cpu_seconds(target.pid) - before if target.pid else 0.0
                seen[name].loads.append(done)
                seen[name].cpu.append(used / done.calls * 1e6)
    return seen
