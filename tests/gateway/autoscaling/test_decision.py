"""Vectors of the autoscaling contract, sections 9a and 9b, from the Go unit tests' arithmetic."""

from dataclasses import replace

import pytest

from gateway.autoscaling.decision import Decision, decide, scale_for_backlog, scale_for_load
from gateway.autoscaling.window import Window
from gateway.types.scaling import ScalingPolicy

DEFAULT = ScalingPolicy(min_replicas=0, autoscale_max=0, target=70.0, stable_window=60)
TEN = replace(DEFAULT, target=7.0)
FRESH = Decision(0, 0)


@pytest.mark.parametrize(
    ("policy", "ready", "stable", "panic", "desired", "panicking"),
    [
        (DEFAULT, 1, 0, 0, 0, False),
        (DEFAULT, 1, 1, 1, 1, False),
        (DEFAULT, 1, 70, 70, 1, False),
        (DEFAULT, 1, 70.1, 70.1, 2, True),
        (DEFAULT, 2, 141, 141, 3, False),
        (DEFAULT, 2, 100, 211, 4, True),
        (DEFAULT, 3, 0, 0, 1, False),
        (DEFAULT, 3, 89, 89, 2, False),
        (DEFAULT, 3, 0, 90, 1, False),
        (DEFAULT, 10, 100, 100, 5, False),
        (DEFAULT, 11, 100, 100, 5, False),
        (DEFAULT, 0, 30, 200, 3, True),
        (replace(DEFAULT, max_up_rate=2), 4, 700, 700, 8, True),
        (replace(DEFAULT, max_up_rate=1.1), 3, 400, 400, 4, True),
        (DEFAULT, 5, 0, 0, 2, False),
        (DEFAULT, 5, 10, 10, 2, False),
        (TEN, 2, 14, 28, 4, True),
        (TEN, 22, 0, 0, 11, False),
        (replace(DEFAULT, target=0.7), 2, 1, 1, 2, False),
        (replace(DEFAULT, target=0.7), 3, 2.1, 2.1, 4, False),
        (replace(DEFAULT, target=140.0), 1, 100, 280, 2, True),
    ],
)
def test_one_decision_of_a_fresh_scaler(
    policy: ScalingPolicy, ready: int, stable: float, panic: float, desired: int, panicking: bool
) -> None:
    made = decide(policy, stable, panic, ready, 0.0, FRESH)
    assert made.desired == desired
    assert (made.panic_since is not None) is panicking


RUN = {
    8: (1, 0, 0, 0, False),
    10: (1, 4.545455, 8.333333, 2, True),
    12: (1, 11.538462, 25, 4, True),
    14: (2, 16.666667, 41.666667, 6, True),
    16: (4, 20.588235, 50, 8, True),
    18: (6, 23.684211, 50, 8, True),
    30: (8, 32.419355, 42.5, 8, True),
    40: (8, 25.731707, 5, 8, True),
    70: (8, 19.166667, 4.166667, 8, True),
    76: (8, 14.166667, 0, 8, True),
    78: (8, 12.5, 0, 4, False),
    82: (4, 9.166667, 0, 2, False),
    86: (2, 5.833333, 0, 1, False),
    128: (1, 0.083333, 0, 1, False),
    130: (1, 0, 0, 0, False),
}


def load(second: int) -> float:
    if 10 <= second < 30:
        return 50.0
    return 5.0 if 30 <= second < 70 else 0.0


def test_run_of_fifteen_rows_goes_as_the_contract_says() -> None:
    window, past, desired = Window(60), FRESH, dict.fromkeys((-4, -2), 0)
    for second in range(131):
        window.record(second, load(second))
        if second % 2:
            continue
        ready = max(1, desired.get(second - 4, 0))
        stable, panic = window.mean(second), window.mean(second, 6)
        assert stable is not None
        assert panic is not None
        past = decide(TEN, stable, panic, ready, float(second), past)
        desired[second] = past.desired
        if second in RUN:
            row = (ready, stable, panic, past.desired, past.panic_since is not None)
            assert row == pytest.approx(RUN[second]), second


def test_bounds_lie_outside_rates_and_panic_memory() -> None:
    made = decide(replace(DEFAULT, autoscale_max=3), 700, 700, 1, 0.0, FRESH)
    assert (made.desired, made.replicas) == (10, 3)
    least = decide(replace(DEFAULT, min_replicas=2), 0, 0, 1, 0.0, FRESH)
    assert (least.desired, least.replicas) == (0, 2)


def test_scale_down_waits_for_its_delay() -> None:
    policy = replace(DEFAULT, scale_down_delay=10.0)
    past = decide(policy, 140, 140, 2, 0.0, FRESH)
    for now in (2.0, 4.0, 6.0, 8.0):
        past = decide(policy, 0, 0, 2, now, past)
        assert past.desired == 2, now
    assert decide(policy, 0, 0, 2, 10.0, past).desired == 1


def test_restart_with_replicas_drops_none_for_a_stable_window() -> None:
    past = Decision.found(5, 100.0)
    past = decide(DEFAULT, 0, 0, 5, 130.0, past)
    assert past.desired == 5
    assert decide(DEFAULT, 0, 0, 5, 161.0, past).desired == 2


def test_relief_is_a_panic_that_holds_the_count_for_a_stable_window() -> None:
    past = scale_for_backlog(TEN, 9, 100.0, FRESH)
    assert (past.replicas, past.panic_since) == (9, 100.0)
    past = decide(TEN, 1, 1, 9, 160.0, past)
    assert past.replicas == 9
    assert decide(TEN, 1, 1, 9, 161.0, past).replicas == 4


def test_relief_neither_passes_the_bounds_nor_lowers_a_panic() -> None:
    past = scale_for_backlog(replace(TEN, autoscale_max=3), 9, 0.0, FRESH)
    assert (past.desired, past.replicas) == (9, 3)
    assert scale_for_backlog(TEN, 4, 1.0, past).replicas == 9


@pytest.mark.parametrize(
    ("stable", "panic", "count"), [(0, 0, 1), (7, 7, 1), (7.1, 0, 2), (7, 20, 3), (700, 0, 5)]
)
def test_asked_count_knows_nothing_of_what_runs(stable: float, panic: float, count: int) -> None:
    assert scale_for_load(replace(TEN, autoscale_max=5), stable, panic) == count
