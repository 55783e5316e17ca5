import pytest

from bench.wrk import LoadError, read

ANSWERED = """Running 1s test @ http://127.0.0.1:1/function/echo
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.14ms    1.55ms  25.07ms   94.02%
    Req/Sec    17.54k     2.94k   20.94k    80.00%
  Latency Distribution
     50%  750.00us
     75%    1.09ms
     90%    1.92ms
     99%    7.37ms
  17443 requests in 2.00s, 3.43MB read
"""
SILENT = """Running 1s test @ http://127.0.0.1:1/function/echo
  1 threads and 16 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     0.00us    0.00us   0.00us    -nan%
  0 requests in 1.00s, 0.00B read
"""
REFUSED = "  Non-2xx or 3xx responses: 7\n"
BROKEN = "  Socket errors: connect 0, read 2, write 0, timeout 1\n"


def test_load_is_read_in_seconds() -> None:
    load = read(ANSWERED, "echo")
    assert (load.calls, load.failed) == (17443, 0)
    assert (load.rate, load.p50, load.p99) == pytest.approx((8721.5, 0.00075, 0.00737))


def test_slice_without_an_answer_fails_in_one_line_that_says_so() -> None:
    with pytest.raises(LoadError) as caught:
        read(SILENT, "echo, 16 connections for 1 s")
    assert str(caught.value) == "echo, 16 connections for 1 s: no call was answered"


def test_failed_calls_are_counted_in_one_line() -> None:
    with pytest.raises(LoadError) as caught:
        read(ANSWERED + BROKEN + REFUSED, "echo")
    assert str(caught.value) == (
        "echo: 7 of 17443 answers were not 2xx, "
        "socket errors: connect 0, read 2, write 0, timeout 1"
    )


def test_failed_calls_are_part_of_a_load_that_allows_them() -> None:
    assert read(ANSWERED + REFUSED, "echo", failures=True).failed == 7
