"""Bytes of answers in; what the listener hears, and whether the connection lives on, out."""

import asyncio

import pytest

from sluice.http1.client import HEAD_BYTES, ClientConnection
from sluice.http1.errors import ConnectionClosedError, MalformedResponseError
from tests.sluice.http1.fakes import Answer, FakeTransport

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"


class ReadOptions:
    """A connection on a fake transport with a request in flight."""

    def __init__(self, *, head_only: bool = False, more: bool = False) -> None:
        self.connection = ClientConnection()
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)
        self.ask(head_only=head_only, more=more)

    def ask(self, *, head_only: bool = False, more: bool = False) -> Answer:
        self.response = Answer()
        self.connection.send(REQUEST, self.response, head_only, more)
        return self.response

    def get(self, *pieces: bytes) -> Answer:
        for piece in pieces:
            self.connection.data_received(piece)
        return self.response

    def lose(self, error: Exception | None = None) -> Answer:
        self.connection.eof_received()
        self.connection.connection_lost(error)
        return self.response

    def is_reusable(self) -> bool:
        return self.connection.reusable


async def test_answer_is_told_in_full_and_the_connection_is_reusable() -> None:
    asked = ReadOptions()
    assert not asked.is_reusable()
    response = asked.get(
        b"HTTP/1.1 201 Well Made\r\nX-Two: 1\r\nx-two: 2\r\nContent-Length: 5\r\n\r\nhello"
    )
    assert asked.transport.writes == [REQUEST]
    assert (response.status, response.reason, response.length) == (201, b"Well Made", 5)
    assert response.headers == [(b"x-two", b"1"), (b"x-two", b"2"), (b"content-length", b"5")]
    assert response.body == b"hello"
    assert response.events == ["started", "body", "complete"]
    assert response.reusable
    assert asked.is_reusable()
    asked.ask()
    assert asked.get(OK).reusable
    assert asked.transport.writes == [REQUEST] * 2


@pytest.mark.parametrize("head_only", [False, True])
async def test_answers_in_single_bytes_are_told_the_same(head_only: bool) -> None:
    asked = ReadOptions()
    for _ in range(3):
        data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        data += b"5\r\nhello\r\n1\r\n!\r\n0\r\n\r\n"
        response = asked.get(*(data[i : i + 1] for i in range(len(data))))
        assert (response.body, response.length, response.reusable) == (b"hello!", None, True)
        asked.ask(head_only=head_only)
        data = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + (b"" if head_only else b"hello")
        response = asked.get(*(data[i : i + 1] for i in range(len(data))))
        assert (response.body, response.reusable) == (b"" if head_only else b"hello", True)
        asked.ask()


async def test_trailers_are_dropped() -> None:
    asked = ReadOptions()
    response = asked.get(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-late: 1\r\n\r\n"
    )
    assert response.reusable
    asked.ask()
    assert (b"x-late", b"1") not in asked.get(OK).headers


async def test_answer_to_head_ends_at_its_head() -> None:
    asked = ReadOptions(head_only=True)
    response = asked.get(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n")
    assert (response.length, response.body, response.reusable) == (5, b"", True)
    asked.ask()
    assert asked.get(OK).body == b"hello"


async def test_body_behind_an_answer_to_head_is_never_taken_for_the_next_answer() -> None:
    asked = ReadOptions(head_only=True)
    response = asked.get(OK)
    assert (response.body, response.reusable) == (b"", False)
    assert asked.transport.closed


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\n\r\n", 0),
        (b"HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", 5),
    ],
)
async def test_status_without_body_ends_at_its_head(head: bytes, length: int) -> None:
    asked = ReadOptions()
    response = asked.get(head)
    assert (response.length, response.reusable) == (length, True)
    asked.ask()
    assert asked.get(OK).body == b"hello"


@pytest.mark.parametrize("pieces", [1, 1000])
async def test_interim_answers_are_skipped(pieces: int) -> None:
    data = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"
        b"HTTP/1.1 102 Processing\r\n\r\n"
    ) + OK
    asked = ReadOptions()
    response = asked.get(*(data[i : i + pieces] for i in range(0, len(data), pieces)))
    assert (response.status, response.reason, response.body) == (200, b"OK", b"hello")
    assert response.headers == [(b"content-length", b"5")]
    assert response.reusable
    asked.ask()
    assert asked.get(OK).reusable


async def test_interim_answers_without_end_are_refused() -> None:
    asked = ReadOptions()
    for _ in range(10_000):
        if not asked.response.error:
            asked.get(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert isinstance(asked.response.error, MalformedResponseError)
    assert asked.transport.aborted


async def test_answer_without_length_ends_with_the_connection() -> None:
    asked = ReadOptions()
    response = asked.get(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo")
    assert response.events == ["started", "body", "body"]
    assert response.length is None
    asked.lose()
    assert (response.body, response.events[-1], response.reusable) == (b"hello", "complete", False)


async def test_answer_without_length_that_ends_in_a_reset_is_broken() -> None:
    asked = ReadOptions()
    asked.get(b"HTTP/1.1 200 OK\r\n\r\nhel")
    response = asked.lose(ConnectionResetError(104, "reset"))
    assert isinstance(response.error, ConnectionClosedError)
    assert response.nothing_sent is False


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncont",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_connection_closed_before_the_answer_was_whole_is_a_failure(data: bytes) -> None:
    asked = ReadOptions()
    if data:
        asked.get(data)
    response = asked.lose()
    assert isinstance(response.error, ConnectionClosedError)
    assert response.nothing_sent is False
    assert "complete" not in response.events
    assert not asked.is_reusable()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"HTTP/1.1 200 OK\nx: y\n\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx : a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 101 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * HEAD_BYTES + b"\r\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [100_000, 700])
async def test_answer_that_is_no_http_or_over_a_limit_fails(data: bytes, size: int) -> None:
    asked = ReadOptions()
    for start in range(0, len(data), size):
        if asked.response.error is None:
            asked.get(data[start : start + size])
    assert isinstance(asked.response.error, MalformedResponseError)
    assert asked.response.events == ["failed"]
    assert asked.response.nothing_sent is False
    assert asked.transport.aborted
    assert not asked.is_reusable()


async def test_bad_chunk_in_the_middle_of_an_answer_fails_it() -> None:
    asked = ReadOptions()
    response = asked.get(
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", b"zz\r\n"
    )
    assert response.body == b"hello"
    assert isinstance(response.error, MalformedResponseError)
    assert asked.transport.aborted


async def test_chunks_of_one_read_are_told_of_together() -> None:
    asked = ReadOptions()
    asked.get(CHUNKED + b"2\r\nhe\r\n3\r\nllo\r\n")
    assert (asked.response.events, asked.response.body) == (["started", "body"], b"hello")
    asked.get(b"1\r\n!\r\n", b"1\r\n?\r\n0\r\n\r\n")
    assert asked.response.events == ["started", "body", "body", "body", "complete"]
    assert asked.response.body == b"hello!?"


async def test_last_piece_of_an_answer_is_known_for_it() -> None:
    class Asking(Answer):
        def response_body(self, data: bytes) -> None:
            super().response_body(data)
            known.append(asked.connection.all_received)

    known: list[bool] = []
    asked = ReadOptions()
    asked.get(OK)
    response = Asking()
    asked.connection.send(REQUEST, response)
    asked.get(CHUNKED + b"5\r\nhello\r\n", b"1\r\n!\r\n0\r\n\r\n")
    assert known == [False, True]
    assert response.reusable


async def test_chunks_before_a_broken_one_are_told_of_before_the_failure() -> None:
    asked = ReadOptions()
    asked.get(CHUNKED + b"5\r\nhello\r\nno size\r\n")
    assert asked.response.events == ["started", "body", "failed"]
    assert isinstance(asked.response.error, MalformedResponseError)


async def test_chunks_with_more_framing_than_data_fail() -> None:
    asked = ReadOptions()
    asked.get(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    for _ in range(1000):
        if asked.response.error is None:
            asked.get(b"1;" + b"e" * 1000 + b"\r\nx\r\n")
    assert isinstance(asked.response.error, MalformedResponseError)


@pytest.mark.parametrize(
    "garbage",
    [b"x", b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", b"HTTP/1.1 200 OK\r\nco", b"H"],
)
async def test_bytes_behind_an_answer_end_the_connection_not_the_answer(garbage: bytes) -> None:
    asked = ReadOptions()
    response = asked.get(OK + garbage)
    assert (response.status, response.body, response.events[-1]) == (200, b"hello", "complete")
    assert response.events.count("started") == 1
    assert response.reusable is False
    assert asked.transport.closed
    assert not asked.is_reusable()


async def test_bytes_nobody_asked_for_end_an_idle_connection() -> None:
    asked = ReadOptions()
    asked.get(OK)
    asked.get(b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\n\r\n")
    assert asked.transport.closed
    assert not asked.is_reusable()


@pytest.mark.parametrize(
    "head", [b"HTTP/1.1 200 OK\r\nconnection: close\r\n", b"HTTP/1.0 200 OK\r\n"]
)
async def test_answer_that_closes_is_not_reusable(head: bytes) -> None:
    asked = ReadOptions()
    response = asked.get(head + b"content-length: 5\r\n\r\nhello")
    assert (response.body, response.reusable) == (b"hello", False)
    assert asked.transport.closed


async def test_peer_that_closes_an_idle_connection_ends_its_use() -> None:
    asked = ReadOptions()
    asked.get(OK)
    asked.lose()
    assert not asked.is_reusable()
    again = asked.ask()
    assert again.events == [], "never told from within send"
    await asyncio.sleep(0)
    assert isinstance(again.error, ConnectionClosedError)
    assert again.nothing_sent is True


async def test_second_request_at_once_is_an_error() -> None:
    asked = ReadOptions()
    with pytest.raises(RuntimeError, match="in flight"):
        asked.ask()


async def test_answer_before_the_request_was_whole_ends_the_connection() -> None:
    asked = ReadOptions(more=True)
    asked.connection.write(b"part")
    response = asked.get(OK)
    assert (response.body, response.reusable) == (b"hello", False)
    assert asked.transport.aborted


async def test_answer_after_the_request_was_whole_keeps_the_connection() -> None:
    asked = ReadOptions(more=True)
    asked.connection.write(b"part")
    asked.connection.finish()
    assert asked.get(OK).reusable
    assert asked.transport.output == REQUEST + b"part"


async def test_aborted_request_hears_nothing_more() -> None:
    asked = ReadOptions()
    asked.get(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel")
    asked.connection.abort()
    asked.lose()
    assert asked.response.events == ["started", "body"]
    assert not asked.is_reusable()


async def test_abort_from_within_a_callback_is_safe() -> None:
    class Aborting(Answer):
        def response_started(
            self, status: int, reason: bytes, headers: list[tuple[bytes, bytes]], length: int | None
        ) -> None:
            super().response_started(status, reason, headers, length)
            asked.connection.abort()

    asked = ReadOptions()
    asked.get(OK)
    response = Aborting()
    asked.connection.send(REQUEST, response)
    asked.connection.data_received(OK)
    asked.lose()
    assert response.events == ["started"]
    assert not asked.is_reusable()


async def test_next_request_may_be_sent_from_the_end_of_the_answer() -> None:
    class Chained(Answer):
        def response_complete(self, reusable: bool) -> None:
            super().response_complete(reusable)
            asked.ask()

    asked = ReadOptions()
    asked.get(OK)
    first = Chained()
    asked.connection.send(REQUEST, first)
    asked.connection.data_received(OK)
    assert first.reusable
    assert asked.get(OK).body == b"hello"


@pytest.mark.parametrize("data", [OK, CHUNKED + b"5\r\nhello\r\n0\r\n\r\n"])
async def test_listener_that_raises_fails_its_call_and_is_logged(
    data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Answer):
        def response_body(self, data: bytes) -> None:
            raise LookupError("listener's bug")

    asked = ReadOptions()
    asked.get(OK)
    response = Failing()
    asked.connection.send(REQUEST, response)
    asked.connection.data_received(data)
    assert isinstance(response.error, LookupError)
    assert "listener's bug" in caplog.text
    assert asked.transport.aborted
    assert "complete" not in response.events


async def test_flow_control_is_passed_both_ways() -> None:
    asked = ReadOptions(more=True)
    asked.connection.pause_writing()
    asked.connection.resume_writing()
    assert asked.response.events == ["paused", "resumed"]
    assert asked.transport.limits == (65_536, 16_384)
    asked.connection.pause_reading()
    asked.connection.pause_reading()
    assert not asked.transport.is_reading()
    asked.connection.resume_reading()
    asked.connection.resume_reading()
    assert asked.transport.is_reading()


async def test_reading_paused_at_the_end_of_an_answer_is_resumed_for_the_next() -> None:
    asked = ReadOptions()
    asked.connection.pause_reading()
    assert asked.get(OK).reusable
    assert asked.transport.is_reading()
