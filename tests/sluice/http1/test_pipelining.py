"""Pipelined requests: order, bounds, and a client that leaves while they wait."""

import random

import pytest

from sluice.http1.backlog import HELD_BYTES
from sluice.http1.exchange import Exchange
from tests.sluice.http1.fakes import Call, Echo, Served, bodies, chunked, get, post, statuses


class SlowOrEcho(Echo):
    """Leaves requests for /slow to the test, echoes all others."""

    def body_complete(self) -> None:
        if self.exchange.path.startswith(b"/slow"):
            self.events.append("complete")
        else:
            super().body_complete()


async def test_fast_requests_in_one_read_are_answered_in_order_each_in_one_write() -> None:
    served = Served(Echo)
    served.feed(get("/a") + post(b"x", path="/b") + chunked(b"y", b"z", path="/c") + get("/d"))
    assert bodies(served.output) == [b"/a ", b"/b x", b"/c yz", b"/d "]
    assert len(served.transport.writes) == 4


async def test_request_behind_a_slow_one_waits_for_its_turn() -> None:
    served = Served(SlowOrEcho)
    served.feed(get("/slow") + post(b"abc", path="/b") + chunked(b"d", path="/c"))
    assert [call.exchange.path for call in served.calls] == [b"/slow"]
    assert served.output == b""
    served.call.response(b"at last")
    assert bodies(served.output) == [b"at last", b"/b abc", b"/c d"]


async def test_mixed_slow_and_fast_requests_keep_their_order_however_they_are_cut() -> None:
    requests = (
        get("/slow1")
        + post(b"b", path="/1")
        + chunked(b"c" * 9000, b"d", path="/slow2")
        + get("/2")
    )
    requests += post(b"e" * 20_000, path="/slow3") + get("/3") + get("/slow4")
    expected = [b"", b"/1 b", b"c" * 9000 + b"d", b"/2 ", b"e" * 20_000, b"/3 ", b""]
    generator = random.Random(4)
    for size in (1, 13, 500, 9000, 100_000):
        served = Served(SlowOrEcho)
        position = 0
        while position < len(requests) or not served.calls[-1].exchange.done:
            served.feed(requests[position : position + size])
            position += size
            waiting = [call for call in served.calls if not call.exchange.done]
            if waiting and "complete" in waiting[0].events and generator.random() < 0.5:
                waiting[0].response(b"")
        found = [body.strip() for body in bodies(served.output)]
        assert found == [body.strip() for body in expected], size


async def test_bad_request_behind_a_slow_one_is_refused_in_its_turn() -> None:
    served = Served(SlowOrEcho)
    served.feed(get("/slow") + get("/b") + b"nonsense\r\n\r\n" + get("/never"))
    assert served.output == b""
    served.call.response(b"ok")
    assert statuses(served.output) == [200, 200, 400]
    assert served.transport.eof


async def test_queued_request_with_a_bad_body_is_refused_in_its_turn() -> None:
    served = Served(SlowOrEcho)
    served.feed(get("/slow") + chunked(b"abc", path="/b", end=b"zz\r\n"))
    served.call.response(b"ok")
    assert statuses(served.output) == [200, 400]
    assert len(served.calls) == 1


async def test_bad_request_behind_one_that_ends_in_an_exception_handler_keeps_its_reason() -> None:
    """An error being handled takes the place of the parser's own context."""
    served = Served(SlowOrEcho)
    served.feed(get("/slow"), get("/../b"))
    try:
        served.connections.remove(served.protocol)
        served.connections.remove(served.protocol)
    except KeyError:
        served.call.response(b"ok")
    assert statuses(served.output) == [200, 400]
    assert b"segments" in served.output


async def test_data_behind_connection_close_is_never_answered() -> None:
    served = Served(SlowOrEcho)
    served.feed(get("/slow", "connection: close") + get("/smuggled"))
    served.call.response(b"ok")
    assert statuses(served.output) == [200]
    assert len(served.calls) == 1
    assert served.transport.is_closing() or served.transport.eof


async def test_expect_is_answered_in_its_turn_only() -> None:
    class Asking(SlowOrEcho):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            exchange.send_continue()

    served = Served(Asking)
    served.feed(
        get("/slow"),
        b"POST /b HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n",
    )
    assert served.output == b""
    served.call.response(b"ok")
    assert statuses(served.output) == [200, 100]
    served.feed(b"abc")
    assert statuses(served.output) == [200, 100, 200]
    assert served.output.endswith(b"/b abc")


async def test_continue_is_not_sent_unasked_nor_late() -> None:
    served = Served()
    served.feed(get("/", "expect: 100-continue"))
    served.call.exchange.send_continue()
    served.call.response(b"-")
    served.feed(post(b"abc", "expect: 100-continue"))
    served.call.exchange.send_continue()
    served.call.response()
    assert statuses(served.output) == [200, 200], "no body, or the body is there already"


async def test_reading_goes_on_into_a_bounded_buffer_while_a_call_is_in_flight() -> None:
    served = Served()
    served.feed(get("/slow"))
    request = get("/next")
    fed = 0
    while served.transport.is_reading():
        served.feed(request * 10)
        fed += len(request) * 10
    assert HELD_BYTES <= fed <= HELD_BYTES + 2 * len(request) * 10
    assert len(served.calls) == 1


async def test_client_gone_is_told_to_the_call_in_flight_while_requests_wait() -> None:
    served = Served()
    served.feed(get("/slow") + get("/b"), get("/c"))
    assert served.transport.is_reading()
    served.protocol.eof_received()
    served.protocol.connection_lost(None)
    assert served.call.events == ["complete", "gone"]
    assert len(served.calls) == 1
    served.call.response(b"nobody reads this")
    assert served.output == b""


async def test_reading_resumes_when_what_was_held_is_served() -> None:
    served = Served(SlowOrEcho)
    served.feed(get("/slow"))
    count = 0
    while served.transport.is_reading():
        served.feed(get("/n") * 100)
        count += 100
    served.call.response(b"ok")
    assert served.transport.is_reading()
    assert len(statuses(served.output)) == count + 1


async def test_one_read_of_tiny_requests_makes_few_exchanges() -> None:
    served = Served()
    served.feed(get() * 10_000)
    assert len(served.calls) == 1
    assert len(served.protocol._backlog.queue) < 400


async def test_nothing_starts_while_the_client_does_not_read() -> None:
    served = Served(Echo)
    served.feed(get("/a"))
    served.protocol.pause_writing()
    served.feed(get("/b") + get("/c"))
    served.feed(*[get("/d") * 100] * 100)
    assert len(served.calls) == 1
    assert not served.transport.is_reading()
    served.protocol.resume_writing()
    assert len(statuses(served.output)) == 3 + 10_000
    assert served.transport.is_reading()


async def test_client_that_stops_reading_in_the_middle_of_a_batch_stops_the_batch() -> None:
    class Stopping(Echo):
        def body_complete(self) -> None:
            if self.exchange.path == b"/b":
                served.protocol.pause_writing()
            super().body_complete()

    served = Served(Stopping)
    served.feed(get("/a") + get("/b") + get("/c") + get("/d"))
    assert bodies(served.output) == [b"/a ", b"/b "]
    served.protocol.resume_writing()
    assert bodies(served.output) == [b"/a ", b"/b ", b"/c ", b"/d "]


async def test_paused_body_is_held_and_delivered_when_resumed() -> None:
    served = Served()
    served.feed(post(b"x" * 200_000)[:1000])
    taken = len(served.call.body)
    served.call.exchange.pause_reading()
    served.feed(b"x" * 10_000, b"x" * 10_000)
    assert len(served.call.body) == taken
    assert served.transport.is_reading()
    served.feed(b"x" * 100_000)
    assert not served.transport.is_reading()
    served.call.exchange.resume_reading()
    assert len(served.call.body) == taken + 120_000
    assert served.transport.is_reading()


async def test_pausing_after_each_piece_loses_nothing() -> None:
    class Nibbling(Call):
        def body_received(self, data: bytes) -> None:
            super().body_received(data)
            self.exchange.pause_reading()

    served = Served(Nibbling)
    data = post(b"".join(b"%06d" % n for n in range(20_000)))
    for start in range(0, len(data), 5000):
        served.feed(data[start : start + 5000])
        if served.calls:
            served.call.exchange.resume_reading()
    assert served.call.body == data[-120_000:]
    assert served.call.events[-1] == "complete"


async def test_client_gone_is_noticed_while_the_body_is_paused() -> None:
    served = Served()
    served.feed(post(b"x" * 20_000)[:9000])
    served.call.exchange.pause_reading()
    served.feed(b"x" * 5000)
    served.protocol.eof_received()
    assert served.call.events[-1] == "gone"


@pytest.mark.parametrize("moment", ["head", "body", "complete", "queued"])
async def test_application_that_raises_is_a_500_and_hears_of_the_end(
    moment: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Call):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            if exchange.path == b"/head":
                raise LookupError("secret detail")

        def body_received(self, data: bytes) -> None:
            if self.exchange.path == b"/body":
                raise LookupError("secret detail")

        def body_complete(self) -> None:
            if self.exchange.path in {b"/complete", b"/queued"}:
                raise LookupError("secret detail")

    served = Served(Failing)
    data = post(b"abc", path=f"/{moment}")
    if moment == "queued":
        served.feed(get("/slow") + data)
        served.call.response(b"ok")
    else:
        served.feed(data)
    expected = [200, 500] if moment == "queued" else [500]
    assert statuses(served.output) == expected
    assert b"secret detail" not in served.output
    assert b"\r\nconnection: close\r\n" in served.output
    assert "secret detail" in caplog.text
    assert "Traceback" in caplog.text
    if moment != "head":
        assert served.call.events[-1] == "gone"
    assert served.transport.is_closing() or served.transport.eof


async def test_application_that_raises_after_its_answer_began_cuts_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(Call):
        def body_complete(self) -> None:
            self.exchange.start_response(200, b"", None)
            self.exchange.write(b"half")
            raise LookupError("too late")

    served = Served(Failing)
    served.feed(get())
    assert served.transport.aborted
    assert not served.output.endswith(b"0\r\n\r\n")
    assert "too late" in caplog.text


async def test_answers_given_together_from_outside_keep_every_connection_in_step() -> None:
    """A batch ends many calls in one go, some of which let the next request of theirs in."""
    batch: list[Call] = []

    class Batched(Call):
        def body_complete(self) -> None:
            batch.append(self)
            if len(batch) == 4:
                calls, batch[:] = batch[:], []
                for call in calls:
                    call.response(call.exchange.path)

    connections = [Served(Batched) for _ in range(4)]
    for number, served in enumerate(connections):
        served.feed(b"".join(get(f"/{number}.{turn}") for turn in range(5)))
    for number, served in enumerate(connections):
        assert bodies(served.output) == [f"/{number}.{turn}".encode() for turn in range(5)]
