"""Scaling policies in fake time: see bench/simulate.py for the arrivals and the rules."""

from bench.rows import Row, at_most, told
from bench.simulate import KINDS, Outcome, compared
from bench.stage import Stage


def run(stage: Stage) -> list[Row]:
    """Rows of each kind of arrivals."""
    rows: list[Row] = []
    for kind in KINDS:
        stage.log(f"simulating {kind} arrivals")
        rows += _rows(kind)
    return rows


def _rows(kind: str) -> list[Row]:
    ours, fixed, alert, (keep, idle) = compared(kind)
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
            note=f"kept {keep:.0f} s when idle; p99 of waiting {_ms(idle)}",
        ),
        told(
            f"{kind}: replicas started against zero-after-idle",
            ours.starts,
            "replicas",
            idle.starts,
        ),
        told(f"{kind}: share of cold starts", ours.cold_share * 100, "%"),
        told(f"{kind}: failed calls", ours.failed, "calls", alert.failed, note="control: alert"),
        told(
            f"{kind}: replica-seconds against OpenFaaS's alert rule",
            ours.replica_seconds,
            "replica-seconds",
            alert.replica_seconds,
            note=f"p99 of waiting {_ms(ours)}, alert {_ms(alert)}",
        ),
    ]


def _ms(outcome: Outcome) -> str:
    return f"{outcome.p99 * 1000:.0f} ms"
