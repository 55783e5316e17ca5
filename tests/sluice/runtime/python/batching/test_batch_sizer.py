import pytest

from sluice.runtime.python.batching.batch_sizer import BatchSizer, ConcurrencyEstimate


def test_rows_meet_half_the_objective_once_the_line_is_known() -> None:
    sizer = BatchSizer(1000, 0.1)
    for rows in (1, 10, 50, 100, 200):
        sizer.learn(rows, 0.010 + 0.0005 * rows)
    assert sizer.rows == pytest.approx(80, abs=1)


def test_rows_never_pass_the_declared_bound() -> None:
    sizer = BatchSizer(16, 10.0)
    for rows in (1, 2, 4):
        sizer.learn(rows, 0.001 * rows)
    assert sizer.rows == 16


def test_bound_falls_by_a_tenth_while_equal_batches_are_too_slow() -> None:
    sizer = BatchSizer(100, 0.1)
    sizer.learn(100, 0.2)
    assert sizer.rows == 90
    sizer.learn(100, 0.01)
    assert sizer.rows == 94


def test_linger_is_a_quarter_of_a_batch_and_bounded() -> None:
    sizer = BatchSizer(100, 1.0)
    for _ in range(100):
        sizer.learn(1, 0.004)
    assert sizer.linger(0.005) == pytest.approx(0.001, rel=0.01)
    assert sizer.linger(0.0005) == 0.0005


def test_crowd_grows_at_once_and_falls_slowly() -> None:
    concurrency = ConcurrencyEstimate()
    concurrency.seen(64)
    concurrency.seen(1)
    assert concurrency.estimate == pytest.approx(62.72)
