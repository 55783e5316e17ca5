from pathlib import Path

from bench.results import cells, missed, read, table, write
from bench.rows import at_least, at_most, observed, quantile, ratio_at_least, ratio_at_most


def test_ratio_to_the_control_is_judged_where_there_is_one() -> None:
    assert at_least("rate", 80, "calls/s", 8, control=10).ok
    assert at_least("rate", 79, "calls/s", 8, control=10).ok is False
    assert at_most("time", 2, "ms", 0.5, control=4).ok
    assert at_most("time", 3, "ms", 0.5, control=4).ok is False


def test_value_is_judged_where_there_is_no_control() -> None:
    assert at_most("memory", 100, "MiB", 100).ok
    assert at_most("memory", 101, "MiB", 100).ok is False
    assert observed("memory", 101, "MiB").ok is None


def test_ratio_of_slices_is_the_median_of_their_ratios() -> None:
    # The machine was ten times faster in the last slice, for both.
    pairs = [(10.0, 10.0), (9.0, 10.0), (80.0, 100.0)]
    row = ratio_at_least("rate", pairs, "calls/s", 0.9)
    assert (row.ratio, row.ok) == (0.9, True)
    assert ratio_at_most("rate", pairs, "calls/s", 0.8).ok is False


def test_quantile_is_a_value_that_was_seen() -> None:
    values = [float(value) for value in range(1, 51)]
    assert quantile(values, 0.5) == 26.0
    assert quantile(values, 0.99) == 50.0
    assert quantile([3.0], 0.99) == 3.0


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    rows = [at_most("a", 2, "ms", 1), observed("b", 1234.5678, "calls/s", 1000)]
    write(path, {"commit": "abc"}, {"suite": rows})
    assert read(path) == ({"commit": "abc"}, {"suite": rows})
    assert missed(rows) == rows[:1]
    assert cells(rows[0])[-1] == "MISSED"
    assert table(rows).count("\n") == 3
