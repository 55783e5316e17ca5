import pytest

from sluice.backoff import (
    Backoff,
    Jitter,
    centred_jitter,
    delay,
    equal_jitter,
    full_jitter,
    no_jitter,
)


def test_delay_doubles_up_to_the_longest() -> None:
    delays = [delay(attempt, 0.5, 3.0, no_jitter) for attempt in range(1, 6)]
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_delay_after_any_number_of_attempts_is_the_longest() -> None:
    assert delay(100_000, 0.001, 60.0, no_jitter) == 60.0


@pytest.mark.parametrize(
    ("jitter", "least", "most"),
    [(full_jitter, 0.0, 10.0), (equal_jitter, 5.0, 10.0), (centred_jitter, 8.0, 12.0)],
)
def test_jitter_spreads_delays_within_its_bounds(jitter: Jitter, least: float, most: float) -> None:
    delays = [delay(1, 10.0, 60.0, jitter) for _ in range(200)]
    assert least <= min(delays) < max(delays) <= most


def test_success_begins_with_the_first_delay_again() -> None:
    backoff = Backoff(1.0, 8.0, no_jitter)
    assert [backoff.next() for _ in range(3)] == [1.0, 2.0, 4.0]
    backoff.reset()
    assert backoff.next() == 1.0
