"""What an answer looks like on the wire, for each kind of request."""

import asyncio
import contextlib

import pytest

from sluice.http1.exchange import LARGEST_JOINED
from sluice.http1.wire import DATE
from tests.sluice.http1.fakes import Call, Served, get, post, statuses

HEAD = b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.fixture(autouse=True)
def _fixed_date() -> None:
    DATE.refresh(784111777)


DATE_LINE = b"date: Sun, 06 Nov 1994 08:49:37 GMT\r\n"


def called(data: bytes) -> tuple[Served, Call]:
    served = Served()
    served.feed(data)
    return served, served.call


async def test_whole_answer_is_one_write() -> None:
    served, call = called(get())
    call.exchange.respond(201, b"x-a: b\r\n", b"hello")
    assert served.transport.writes == [
        b"HTTP/1.1 201 Created\r\nx-a: b\r\n" + DATE_LINE + b"content-length: 5\r\n\r\nhello"
    ]
    assert call.exchange.done
    assert call.exchange.status == 201
    assert not served.transport.is_closing()


async def test_empty_answer_states_its_length() -> None:
    served, call = called(get())
    call.exchange.respond(200, b"", b"")
    assert served.output == b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"content-length: 0\r\n\r\n"


async def test_large_answer_is_whole() -> None:
    served, call = called(get())
    body = b"x" * (LARGEST_JOINED + 1)
    call.exchange.respond(200, b"", body)
    head = b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"content-length: %d\r\n\r\n" % len(body)
    assert served.output == head + body


@pytest.mark.parametrize("lines", [b"date: then\r\n", b"x-a: b\r\ndate: then\r\n"])
async def test_date_of_the_application_is_not_doubled(lines: bytes) -> None:
    served, call = called(get() + get())
    call.exchange.respond(200, lines, b"")
    served.call.exchange.start_response(200, lines, 0)
    served.call.exchange.end()
    assert served.output.count(b"date: then\r\n") == 2
    assert DATE_LINE not in served.output


async def test_header_that_only_ends_in_date_does_not_hide_the_date() -> None:
    served, call = called(get())
    call.exchange.respond(200, b"x-update: 1\r\nx-last-date: 2\r\n", b"")
    assert DATE_LINE in served.output


async def test_unnamed_status_has_an_empty_reason() -> None:
    served, call = called(get())
    call.exchange.respond(299, b"", b"")
    assert served.output.startswith(b"HTTP/1.1 299 \r\n")


@pytest.mark.parametrize("status", [-1, 0, 99, 100, 101, 199, 1000])
async def test_impossible_status_is_refused_and_may_be_answered_otherwise(status: int) -> None:
    served, call = called(get())
    with pytest.raises(ValueError, match=f"status {status}"):
        call.exchange.respond(status, b"", b"")
    with pytest.raises(ValueError, match=f"status {status}"):
        call.exchange.start_response(status, b"", None)
    assert served.output == b""
    call.exchange.respond(500, b"", b"")
    assert statuses(served.output) == [500]


@pytest.mark.parametrize("status", [204, 304])
async def test_status_without_body_has_neither_body_nor_length(status: int) -> None:
    served, call = called(get() + get() + get())
    call.exchange.respond(status, b"", b"dropped")
    exchange = served.call.exchange
    exchange.start_response(status, b"", None)
    exchange.write(b"dropped")
    exchange.end()
    served.call.exchange.start_response(status, b"", 7)
    served.call.exchange.end()
    assert statuses(served.output) == [status] * 3
    for word in (b"dropped", b"content-length", b"transfer-encoding"):
        assert word not in served.output
    assert not served.transport.is_closing()


async def test_head_answer_states_the_length_but_carries_no_body() -> None:
    served, call = called(HEAD * 4)
    call.exchange.respond(200, b"", b"hello")
    served.call.exchange.start_response(200, b"", 5)
    served.call.exchange.end()
    exchange = served.call.exchange
    exchange.start_response(200, b"", 5)
    exchange.write(b"hello")
    exchange.end()
    response = b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"content-length: 5\r\n\r\n"
    assert served.output == response * 3
    served.call.exchange.start_response(200, b"", None)
    served.call.exchange.end()
    assert served.output == response * 3 + b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"\r\n"


async def test_answer_of_unknown_length_is_chunked_and_its_head_rides_with_the_first_piece() -> (
    None
):
    served, call = called(get())
    exchange = call.exchange
    exchange.start_response(200, b"x-a: b\r\n", None)
    exchange.write(b"hello")
    exchange.write(b"")
    exchange.write(b" world 0123456789")
    exchange.end()
    assert served.transport.writes == [
        b"HTTP/1.1 200 OK\r\nx-a: b\r\n" + DATE_LINE + b"transfer-encoding: chunked\r\n\r\n"
        b"5\r\nhello\r\n",
        b"11\r\n world 0123456789\r\n",
        b"0\r\n\r\n",
    ]
    assert not served.transport.is_closing()


async def test_last_piece_and_the_end_of_a_chunked_answer_are_one_write() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    call.exchange.write(b"hello")
    call.exchange.end(b"world")
    assert served.transport.writes[1:] == [b"5\r\nworld\r\n0\r\n\r\n"]
    assert call.exchange.done


async def test_last_piece_counts_for_the_declared_length() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 10)
    call.exchange.write(b"hello")
    call.exchange.end(b"world")
    assert served.output.endswith(b"content-length: 10\r\n\r\nhelloworld")
    assert call.exchange.done
    assert not served.transport.is_closing()


@pytest.mark.parametrize("last", [b"worl", b"worlds"])
async def test_last_piece_that_misses_the_declared_length_cuts(last: bytes) -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 10)
    call.exchange.write(b"hello")
    with contextlib.suppress(ValueError):
        call.exchange.end(last)
    assert served.transport.aborted
    assert call.exchange.done


async def test_last_piece_of_an_answer_to_head_is_not_sent() -> None:
    served, call = called(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
    call.exchange.start_response(200, b"", None)
    call.exchange.end(b"world")
    assert served.output.endswith(b"\r\n\r\n")
    assert b"world" not in served.output


async def test_empty_chunked_answer_is_one_write() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    call.exchange.end()
    assert served.transport.writes == [
        b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    ]


async def test_head_goes_out_alone_when_the_body_is_late() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    assert served.output == b""
    await asyncio.sleep(0)
    assert served.output.endswith(b"chunked\r\n\r\n")
    call.exchange.write(b"x")
    call.exchange.end()
    assert served.output.endswith(b"chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n")


async def test_answer_of_known_length_is_sent_as_it_comes() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 10)
    call.exchange.write(b"hello")
    call.exchange.write(b"world")
    call.exchange.end()
    assert served.output == (
        b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"content-length: 10\r\n\r\nhelloworld"
    )
    assert len(served.transport.writes) == 2


async def test_answer_shorter_than_its_length_is_cut() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 10)
    call.exchange.write(b"hello")
    call.exchange.end()
    assert served.transport.aborted
    assert call.exchange.done


async def test_answer_longer_than_its_length_is_cut() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 3)
    with pytest.raises(ValueError, match="longer"):
        call.exchange.write(b"hello")
    assert served.transport.aborted
    assert b"hel" not in served.output


async def test_aborted_chunked_answer_has_no_last_chunk() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    call.exchange.write(b"half")
    call.exchange.abort()
    call.exchange.write(b"more")
    call.exchange.end()
    await asyncio.sleep(0)
    assert served.transport.aborted
    assert served.output.endswith(b"4\r\nhalf\r\n")


async def test_abort_before_the_head_was_sent_sends_nothing() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    call.exchange.abort()
    await asyncio.sleep(0)
    assert served.transport.aborted
    assert served.output == b""


async def test_http_1_0_gets_no_chunks_and_a_closed_connection() -> None:
    served, call = called(b"GET / HTTP/1.0\r\n\r\n")
    assert not call.exchange.keep_alive
    assert call.exchange.http_version == "1.0"
    call.exchange.start_response(200, b"", None)
    call.exchange.write(b"hello")
    call.exchange.end()
    head = b"HTTP/1.1 200 OK\r\n" + DATE_LINE + b"connection: close\r\n\r\n"
    assert served.output == head + b"hello"
    assert served.transport.is_closing()


async def test_http_1_0_with_keep_alive_is_told_so_and_stays() -> None:
    served, call = called(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    assert call.exchange.keep_alive
    call.exchange.respond(200, b"", b"hello")
    assert b"\r\nconnection: keep-alive\r\n" in served.output
    assert not served.transport.is_closing()
    served.feed(b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
    served.call.exchange.start_response(200, b"", None)
    served.call.exchange.end()
    assert served.output.count(b"connection: close\r\n") == 1, "no length: the end must tell"
    assert served.transport.is_closing()


@pytest.mark.parametrize("line", ["connection: close", "connection: keep-alive, close"])
async def test_client_that_asks_to_close_gets_its_wish(line: str) -> None:
    served, call = called(get("/", line))
    assert not call.exchange.keep_alive
    call.exchange.respond(200, b"", b"")
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.is_closing()


async def test_close_after_closes_with_a_word_about_it() -> None:
    served, call = called(get())
    call.exchange.close_after()
    call.exchange.respond(200, b"", b"")
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.is_closing()


async def test_close_after_the_head_still_closes() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", 1)
    call.exchange.write(b"x")
    call.exchange.close_after()
    call.exchange.end()
    assert served.transport.is_closing()
    assert not served.transport.aborted


async def test_answer_to_a_half_read_body_closes_and_reads_the_rest_away() -> None:
    served, call = called(post(b"x" * 100)[:-50])
    call.exchange.respond(403, b"", b"no")
    assert b"\r\nconnection: close\r\n" in served.output
    assert served.transport.eof, "our end is closed, theirs is awaited"
    assert not served.transport.is_closing()
    before = len(served.call.events)
    served.feed(b"x" * 50, get("/next"))
    assert len(served.calls) == 1
    assert len(served.call.events) == before
    assert statuses(served.output) == [403]


async def test_answer_at_the_head_of_a_request_without_body_keeps_the_connection() -> None:
    class Immediate(Call):
        def __init__(self, exchange: object) -> None:
            super().__init__(exchange)  # type: ignore[arg-type] # what Served hands over
            self.exchange.respond(200, b"", b"now")

    served = Served(Immediate)
    served.feed(get() + get())
    assert statuses(served.output) == [200, 200]
    assert b"connection" not in served.output
    assert served.call.events == []


async def test_second_answer_is_an_error_while_the_first_is_open_and_nothing_after() -> None:
    served, call = called(get())
    call.exchange.start_response(200, b"", None)
    with pytest.raises(RuntimeError):
        call.exchange.respond(200, b"", b"")
    with pytest.raises(RuntimeError):
        call.exchange.start_response(200, b"", None)
    call.exchange.end()
    written = served.output
    call.exchange.respond(200, b"", b"again")
    call.exchange.write(b"again")
    call.exchange.end()
    call.exchange.abort()
    assert served.output == written
    assert not served.transport.aborted


async def test_body_before_the_head_is_an_error() -> None:
    _, call = called(get())
    with pytest.raises(RuntimeError):
        call.exchange.write(b"x")
    with pytest.raises(RuntimeError):
        call.exchange.end()
