"""Ends of connections: the client's, the sweep's (in fake time), the drain's."""

import weakref

import pytest

from sluice.http1.limits import Limits
from tests.sluice.http1.fakes import Call, Echo, Served, chunked, get, post, statuses

LIMITS = Limits(header_timeout=10, idle_timeout=75, stall_timeout=60, linger_timeout=5)


def sweep(served: Served, *times: float) -> None:
    for now in times:
        served.protocol.sweep(now)


def sweep_through(served: Served, start: float, end: float) -> None:
    now = start
    while now <= end:
        served.protocol.sweep(now)
        now += 0.25


async def test_connection_is_in_the_set_while_it_is_open() -> None:
    served = Served()
    assert served.connections == {served.protocol}
    served.protocol.connection_lost(None)
    assert served.connections == set()


async def test_write_limits_are_set() -> None:
    assert Served().transport.limits == (65_536, 16_384)


async def test_idle_connection_is_closed_after_75_s_without_a_word() -> None:
    served = Served(Echo, LIMITS)
    served.feed(get())
    written = served.output
    sweep_through(served, 100, 174.75)
    assert not served.transport.is_closing()
    sweep(served, 175)
    assert served.transport.is_closing()
    assert served.output == written


async def test_request_in_between_starts_the_idle_time_anew() -> None:
    served = Served(Echo, LIMITS)
    sweep_through(served, 0, 70)
    served.feed(get())
    sweep_through(served, 70.25, 140)
    assert not served.transport.is_closing()
    sweep_through(served, 140, 146)
    assert served.transport.is_closing()


@pytest.mark.parametrize("start", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nhost: a\r\nx"])
async def test_slow_head_is_408_after_10_s_from_its_first_byte(start: bytes) -> None:
    served = Served(limits=LIMITS)
    sweep_through(served, 0, 30)
    served.feed(start)
    now = 30.25
    while now < 40.25:
        sweep(served, now)
        assert served.output == b""
        if not start.endswith((b"G", b"\n")):
            served.feed(b"x")  # bytes that trickle in win no time
        now += 0.25
    sweep(served, now)
    assert statuses(served.output) == [408]
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.eof


async def test_heads_that_complete_in_time_are_no_slow_head() -> None:
    served = Served(Echo, LIMITS)
    for second in range(60):
        served.feed(get()[:20])
        sweep(served, second)
        served.feed(get()[20:] + get()[:20])
        sweep(served, second + 0.5)
        served.feed(get()[20:])
    assert statuses(served.output) == [200] * 120


async def test_head_held_behind_a_slow_call_is_no_slow_head() -> None:
    served = Served(limits=LIMITS)
    served.feed(get("/slow") + get("/b")[:20])
    sweep_through(served, 0, 200)
    assert served.output == b""
    served.call.response(b"ok")
    sweep_through(served, 200, 205)
    served.feed(get("/b")[20:])
    assert len(served.calls) == 2


async def test_body_that_stops_coming_is_408() -> None:
    served = Served(limits=LIMITS)
    served.feed(post(b"x" * 100)[:-50])
    sweep_through(served, 0, 50)
    served.feed(b"x")
    sweep_through(served, 50.25, 110)
    assert served.output == b""
    sweep_through(served, 110, 111)
    assert statuses(served.output) == [408]
    assert served.call.events[-1] == "gone"


@pytest.mark.parametrize("why", ["paused", "not asked for"])
async def test_body_that_we_do_not_take_is_no_fault_of_the_client(why: str) -> None:
    served = Served(limits=LIMITS)
    if why == "paused":
        served.feed(chunked(b"abc", end=b""))
        served.call.exchange.pause_reading()
    else:
        served.feed(post(b"abc", "expect: 100-continue")[:-3])
    sweep_through(served, 0, 300)
    assert served.output == b""
    assert served.call.events[-1:] != ["gone"]


async def test_long_call_is_not_ended_by_the_sweep() -> None:
    served = Served(limits=LIMITS)
    served.feed(get())
    sweep_through(served, 0, 1000)
    assert not served.transport.is_closing()


async def test_client_that_takes_nothing_of_its_answer_is_cut() -> None:
    served = Served(limits=LIMITS)
    served.feed(get())
    served.call.exchange.start_response(200, b"", None)
    served.transport.unsent = 100_000
    served.protocol.pause_writing()
    assert served.call.events[-1] == "paused"
    assert served.call.exchange.writing_paused
    sweep_through(served, 0, 59)
    served.transport.unsent = 99_999
    sweep_through(served, 59.25, 119)
    assert not served.transport.aborted
    sweep_through(served, 119, 120)
    assert served.transport.aborted


async def test_client_that_takes_no_last_bytes_is_cut() -> None:
    served = Served(Echo, LIMITS)
    served.transport.unsent = 10
    served.feed(get("/", "connection: close"))
    assert served.transport.is_closing()
    sweep_through(served, 0, 61)
    assert served.transport.aborted


async def test_rest_of_a_refused_request_is_read_away_for_5_s() -> None:
    served = Served(limits=LIMITS)
    served.feed(b"nonsense\r\n\r\n")
    sweep_through(served, 0, 4.75)
    served.feed(b"x" * 10)
    assert not served.transport.is_closing()
    sweep(served, 5)
    assert served.transport.aborted


async def test_half_close_is_a_client_gone() -> None:
    served = Served()
    served.feed(get())
    served.protocol.eof_received()
    assert served.call.events == ["complete", "gone"]
    served.protocol.connection_lost(None)
    assert served.call.events == ["complete", "gone"], "told once"


async def test_half_close_in_the_middle_of_an_answer_cuts_it() -> None:
    served = Served()
    served.feed(b"GET / HTTP/1.0\r\n\r\n")
    served.call.exchange.start_response(200, b"", None)
    served.call.exchange.write(b"half")
    served.protocol.eof_received()
    assert served.transport.aborted
    assert served.call.events[-1] == "gone"


async def test_client_gone_after_the_answer_is_not_told() -> None:
    served = Served(Echo)
    served.feed(get())
    served.protocol.connection_lost(None)
    assert "gone" not in served.call.events


async def test_writes_to_a_lost_connection_are_dropped() -> None:
    served = Served()
    served.feed(get())
    served.protocol.connection_lost(ConnectionResetError())
    served.call.response(b"x")
    served.call.exchange.abort()
    assert served.output == b""


async def test_reader_that_pauses_is_told_and_told_again() -> None:
    served = Served()
    served.feed(get())
    served.call.exchange.start_response(200, b"", None)
    served.protocol.pause_writing()
    served.protocol.resume_writing()
    assert served.call.events == ["complete", "paused", "resumed"]
    assert not served.call.exchange.writing_paused


async def test_drain_closes_an_idle_connection_at_once() -> None:
    served = Served(Echo)
    served.feed(get())
    served.protocol.drain()
    assert served.transport.is_closing()


async def test_drain_lets_the_call_in_flight_end_and_closes() -> None:
    served = Served()
    served.feed(get("/slow") + get("/b"))
    served.protocol.drain()
    assert not served.transport.is_closing()
    served.call.response(b"ok")
    assert statuses(served.output) == [200]
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.is_closing() or served.transport.eof
    assert len(served.calls) == 1


async def test_drain_lets_a_request_that_was_begun_come_in() -> None:
    served = Served(Echo)
    served.feed(post(b"abc")[:10])
    served.protocol.drain()
    assert not served.transport.is_closing()
    served.feed(post(b"abc")[10:])
    assert statuses(served.output) == [200]
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.is_closing()


async def test_receiver_that_raises_when_told_of_its_end_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Call):
        def body_received(self, data: bytes) -> None:
            raise LookupError("first")

        def client_gone(self) -> None:
            raise LookupError("second")

    served = Served(Failing)
    served.feed(post(b"abc"))
    assert statuses(served.output) == [500]
    assert "first" in caplog.text
    assert "second" in caplog.text


async def test_idle_connection_keeps_nothing_of_its_last_call() -> None:
    """Without the collector's help: ten thousand idle connections must not hold as many bodies."""
    served = Served(Echo)
    served.feed(post(b"x" * 10_000), chunked(b"y"))
    kept = [weakref.ref(call) for call in served.calls]
    kept += [weakref.ref(call.exchange) for call in served.calls]  # type: ignore[arg-type] # any object
    served.calls.clear()
    assert [ref() for ref in kept] == [None] * 4
