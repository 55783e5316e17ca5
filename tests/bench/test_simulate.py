from bench.simulate import (
    CONCURRENCY,
    START_SECONDS,
    TRACE_SECONDS,
    Alert,
    Fixed,
    Ours,
    Trace,
    World,
    ZeroAfterIdle,
    traces_of,
)

TWICE = Trace([100.0, 1000.0], [1.0, 1.0])


def test_function_at_zero_is_woken_by_each_call_that_comes_after_its_idle_time() -> None:
    outcome = World(TWICE, Ours()).run()
    assert outcome.cold == outcome.starts == 2
    assert [round(wait, 6) for wait in outcome.waits] == [START_SECONDS] * 2
    # One call of a second, then 60 s without one: what the zero-duration costs, twice.
    assert 2 * 60 < outcome.replica_seconds < 2 * 70


def test_fixed_count_costs_the_whole_time_and_never_starts_cold() -> None:
    outcome = World(TWICE, Fixed(2)).run()
    assert (outcome.cold, outcome.waits) == (0, [0.0, 0.0])
    assert abs(outcome.replica_seconds - 2 * TRACE_SECONDS) < 1


def test_idle_policy_keeps_a_replica_for_its_time() -> None:
    outcome = World(TWICE, ZeroAfterIdle(10.0)).run()
    assert outcome.starts == 2
    assert 2 * 10 < outcome.replica_seconds < 2 * 14


def test_calls_above_the_slots_wait_for_one_in_their_order() -> None:
    trace = Trace([10.0] * (CONCURRENCY + 1), [2.0] * (CONCURRENCY + 1))
    outcome = World(trace, Fixed(1)).run()
    assert outcome.waits == [0.0] * CONCURRENCY + [2.0]


def test_steady_load_brings_ours_and_the_alert_more_replicas() -> None:
    times = [number / 20 for number in range(20 * 120)]
    trace = Trace(times, [0.2] * len(times))
    alone = World(trace, Fixed(1)).run()
    for policy in (Ours(), Alert()):
        outcome = World(trace, policy).run()
        assert outcome.failed < alone.failed
        assert outcome.starts > 1


def test_arrivals_are_the_same_in_every_run_and_follow_the_published_shares() -> None:
    traces = traces_of("heavy-tailed")
    assert traces == traces_of("heavy-tailed")
    rare = sum(len(trace.times) / TRACE_SECONDS <= 1 / 60 for trace in traces) / len(traces)
    assert 0.77 < rare < 0.85
