"""Scaling policies in fake time: see bench/simulation/ for the arrivals and the rules."""

from bench.rows import Row, at_most, observed
from bench.simulate import compared, idle_as_costly, replay
from bench.simulation.arrivals import KINDS, traces_of
from bench.simulation.policies import ZERO_DURATION, Ours
from bench.simulation.world import Outcome
from bench.stage import Stage

DEFAULT_DURATION = "15m"


def run(stage: Stage) -> list[Row]:
    """Rows of each kind of arrivals."""
    rows: list[Row] = []
    for kind in KINDS:
        stage.log(f"simulating {kind} arrivals")
        rows += _rows(kind)
    return [*rows, _by_default("bursty")]


def _rows(kind: str) -> list[Row]:
    found = compared(kind)
    ours, fixed, alert, idle = found.ours, found.fixed, found.alert, found.idle
    return [
        at_most(
            f"{kind}: replica-seconds against fixed counts with our p99 of waiting",
            ours.replica_seconds,
            "replica-seconds",
            0.99,
            fixed.replica_seconds,
            note=f"p99 of waiting {_ms(ours)}, fixed {_ms(fixed)}",
        ),
        at_most(
            f"{kind}: cold starts against zero-after-idle at our replica-seconds",
            ours.cold,
            "calls",
            0.99,
            idle.cold,
            note=f"zero after {ZERO_DURATION}, the control keeps each replica {found.keep:.0f} s",
        ),
        observed(f"{kind}: p99 of waiting against zero-after-idle", ours.p99, "s", idle.p99),
        observed(
            f"{kind}: replicas started against zero-after-idle",
            ours.starts,
            "replicas",
            idle.starts,
        ),
        observed(f"{kind}: share of cold starts", ours.cold_share * 100, "%"),
        observed(
            f"{kind}: failed calls", ours.failed, "calls", alert.failed, note="control: alert"
        ),
        observed(
            f"{kind}: replica-seconds against OpenFaaS's alert rule",
            ours.replica_seconds,
            "replica-seconds",
            alert.replica_seconds,
            note=f"p99 of waiting {_ms(ours)}, alert {_ms(alert)}",
        ),
    ]


def _by_default(kind: str) -> Row:
    """The same comparison with the time that holds where no label says another."""
    traces = traces_of(kind)
    ours = replay(traces, lambda: Ours(DEFAULT_DURATION))
    keep, idle = idle_as_costly(traces, ours.replica_seconds)
    return observed(
        f"{kind}: cold starts against zero-after-idle at our replica-seconds, by default",
        ours.cold,
        "calls",
        idle.cold,
        note=f"zero after {DEFAULT_DURATION}, the control keeps each replica {keep:.0f} s",
    )


def _ms(outcome: Outcome) -> str:
    return f"{outcome.p99 * 1000:.0f} ms"
