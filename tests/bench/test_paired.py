import pytest

from bench.paired import Compared, compare, lines
from bench.rows import Row


def rows(rate: float, wait: float) -> dict[str, list[Row]]:
    return {"calls": [Row("rate", rate, "calls/s"), Row("p99", wait, "ms")]}


def test_more_is_better_of_rates_and_less_of_times() -> None:
    compared = compare([(rows(100, 10), rows(110, 20)), (rows(100, 10), rows(110, 20))])
    assert [row.ratios for row in compared] == [(1.1, 1.1), (0.5, 0.5)]


def test_row_with_a_control_is_compared_by_its_ratio_to_it() -> None:
    old = Row("rate", 100, "calls/s", control=200, ratio=0.5, target=">= 0.4 x")
    new = Row("rate", 300, "calls/s", control=600, ratio=0.5, target=">= 0.4 x")
    (compared,) = compare([({"calls": [old]}, {"calls": [new]})])
    assert compared.ratios == (1.0,)


def test_target_says_which_way_is_better() -> None:
    old = Row("p99", 10, "x", target="<= 2 x")
    (compared,) = compare([({"calls": [old]}, {"calls": [Row("p99", 5, "x", target="<= 2 x")]})])
    assert compared.ratios == (2.0,)


def test_row_that_one_run_lacks_is_left_out() -> None:
    assert compare([(rows(100, 10), {"calls": []})]) == []


@pytest.mark.parametrize(
    ("ratios", "verdict"), [((0.9, 0.91, 0.9, 0.9, 0.91), "worse"), ((0.9, 1.1, 0.95, 1.05), "")]
)
def test_row_is_worse_only_when_its_whole_interval_is(
    ratios: tuple[float, ...], verdict: str
) -> None:
    *_, line = lines([Compared("calls", "rate", 100, 90, "calls/s", ratios)])
    assert line.split("|")[-2].strip() == verdict
