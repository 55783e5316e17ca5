"""Vectors of the autoscaling contract, section 9c."""

import pytest

from gateway.autoscaling.window import Window


def threes() -> Window:
    window = Window(60)
    for second in range(21):
        window.record(second, 3.0)
    return window


@pytest.mark.parametrize(("now", "mean"), [(22, 3.0), (40, 3.0), (79, 3.0), (80, 0.0), (81, None)])
def test_silence_is_cut_off_and_at_last_no_data(now: int, mean: float | None) -> None:
    assert threes().mean(now) == mean


@pytest.mark.parametrize(("now", "mean"), [(22, 3.0), (25, 3.0), (26, 0.0)])
def test_short_mean_of_silence_falls_after_its_own_width(now: int, mean: float) -> None:
    assert threes().mean(now, 6) == mean


@pytest.mark.parametrize(("now", "mean"), [(22, 2.73913), (78, 0.1), (80, 0.0)])
def test_reported_zeros_decay(now: int, mean: float) -> None:
    window = threes()
    for second in range(21, now + 1):
        window.record(second, 0.0)
    assert window.mean(now) == mean


def test_samples_of_one_second_are_added() -> None:
    window = Window(60)
    window.record(5.1, 1.0)
    window.record(5.9, 2.0)
    assert window.mean(5) == 3.0


def test_hole_between_two_writes_counts_as_zeros() -> None:
    window = Window(60)
    window.record(0, 4.0)
    window.record(3, 4.0)
    assert window.mean(3) == 2.0


def test_sample_older_than_the_window_is_dropped() -> None:
    window = Window(10)
    window.record(20, 1.0)
    window.record(10, 100.0)
    assert window.mean(20) == 1.0


def test_window_without_a_sample_knows_nothing() -> None:
    assert Window(60).mean(0) is None
