"""Answers whose heads come again: exactly what the parser would tell, or the parser tells it."""

import random
from collections.abc import Iterator

import pytest

from sluice.http1.client import ClientConnection
from sluice.http1.head_cache import KNOWN_HEADS, PATIENCE
from sluice.http1.response_cache import RESPONSE_HEADS, KnownResponse
from tests.sluice.http1.fakes import Answer, FakeTransport

REQUEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"
CASES = 3000


@pytest.fixture(autouse=True)
def _nothing_known() -> Iterator[None]:
    RESPONSE_HEADS.clear()
    yield
    RESPONSE_HEADS.clear()


def reply(body: bytes = b"hello", time: bytes = b"0.000123", *lines: bytes) -> bytes:
    """An answer of our runtime, with further header lines."""
    head = [b"HTTP/1.1 200 OK", b"content-type: text/x", *lines]
    head += [b"x-duration-seconds: %b" % time, b"date: today", b"content-length: %d" % len(body)]
    return b"\r\n".join([*head, b"", body])


class Noting(Answer):
    """Keeps whether the connection knew the head."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection
        self.known: KnownResponse | None = None

    def response_complete(self, reusable: bool) -> None:
        self.known = self.connection.known
        super().response_complete(reusable)


class RepeatedClient:
    """A client connection on a fake transport that sends the same request again and again."""

    def __init__(self, *, forgetful: bool = False) -> None:
        self.connection = ClientConnection(None if forgetful else RESPONSE_HEADS)
        self.transport = FakeTransport()
        self.connection.connection_made(self.transport)

    def get(self, *pieces: bytes, head_only: bool = False, more: bool = False) -> Noting:
        response = Noting(self.connection)
        self.connection.send(REQUEST, response, head_only, more)
        for piece in pieces:
            if not self.transport.closed:
                self.connection.data_received(piece)
        return response


def heard_of(response: Answer) -> tuple[object, ...]:
    """All that a listener is given."""
    heard = (response.status, response.reason, response.headers, response.length, response.body)
    return (*heard, response.events, response.reusable, type(response.error))


async def test_head_is_known_the_second_time_and_told_with_its_own_time() -> None:
    asked = RepeatedClient()
    first = asked.get(reply(b"hello", b"0.000123"))
    second = asked.get(reply(b"world", b"9.876543"))
    assert (first.known, second.known is None) == (None, False)
    assert second.body == b"world"
    assert second.headers == [
        (b"content-type", b"text/x"),
        (b"x-duration-seconds", b"9.876543"),
        (b"date", b"today"),
        (b"content-length", b"5"),
    ]
    assert dict(first.headers)[b"x-duration-seconds"] == b"0.000123"
    assert second.reusable
    assert asked.connection.reusable


async def test_head_is_known_on_every_connection() -> None:
    RepeatedClient().get(reply())
    assert RepeatedClient().get(reply()).known is not None


async def test_plan_that_a_listener_leaves_is_there_the_next_time() -> None:
    asked = RepeatedClient()
    asked.get(reply())
    known = asked.get(reply()).known
    assert known is not None
    known.prepared = b"mine"
    again = asked.get(reply()).known
    assert again is not None
    assert again.prepared == b"mine"


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\ndate: today\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 1\r\n\r\na",
        b"HTTP/1.0 200 OK\r\ncontent-length: 1\r\n\r\na",
        b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 1\r\n\r\na",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
        b"\r\nHTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\na",
        reply(time=b"12.000123"),
        reply(b"", b"0.000123", b"x-long: " + b"y" * 2048),
    ],
)
async def test_answer_that_is_not_plain_is_always_parsed(response: bytes) -> None:
    heard = [RepeatedClient().get(response) for _ in range(3)]
    assert [each.known for each in heard] == [None] * 3
    assert (
        heard_of(heard[2])
        == heard_of(heard[0])
        == heard_of(RepeatedClient(forgetful=True).get(response))
    )


async def test_answer_to_head_is_never_known_nor_taken_for_one() -> None:
    asked = RepeatedClient()
    asked.get(reply())
    response = asked.get(reply(b"hello")[:-5], head_only=True)
    assert (response.known, response.events) == (None, ["started", "complete"])
    assert asked.get(reply()).known is not None


@pytest.mark.parametrize(
    "time", [b"0x000123", b"12345678", b"1\r\nab: c", b"\r\nab: cd", b"0.0.0123"]
)
async def test_time_that_is_no_number_is_not_passed_over(time: bytes) -> None:
    for _ in range(2):
        RepeatedClient().get(reply())
    response = RepeatedClient().get(reply(b"hello", time))
    assert response.known is None
    assert heard_of(response) == heard_of(RepeatedClient(forgetful=True).get(reply(b"hello", time)))


@pytest.mark.parametrize("line", [b"X-Duration-Seconds: 1.5", b"x-duration-seconds:1.5"])
async def test_time_that_is_written_otherwise_is_told_as_it_came(line: bytes) -> None:
    alone = b"HTTP/1.1 200 OK\r\n%b\r\ncontent-length: 1\r\n\r\na" % line
    beside = alone.replace(line, line + b"\r\nx-duration-seconds: 0.000123")
    for response in (alone, beside):
        heard = [RepeatedClient().get(response) for _ in range(2)]
        assert heard[1].known is not None
        assert heard_of(heard[1]) == heard_of(heard[0])
    headers = RepeatedClient().get(beside.replace(b"0.000123", b"9.876543")).headers
    assert headers[:2] == [(b"x-duration-seconds", b"1.5"), (b"x-duration-seconds", b"9.876543")]


async def test_head_of_a_known_answer_is_not_called_the_last_of_it() -> None:
    class Asking(Answer):
        def response_started(self, *heard: object) -> None:
            self.events.append(f"answered: {asked.connection.all_received}")

    RepeatedClient().get(reply())
    asked = RepeatedClient()
    response = Asking()
    asked.connection.send(REQUEST, response)
    asked.connection.data_received(reply())
    assert response.events == ["answered: False", "body", "complete"]


async def test_interim_answer_with_a_part_of_the_next_is_not_taken_for_a_whole_one() -> None:
    final = b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n"
    part = b"HTTP/1.1 100 Continue\r\n\r\n" + final + b"x" * (50 - len(final))
    for _ in range(3):
        response = RepeatedClient().get(part, b"x" * len(final))
        assert (response.body, response.known) == (b"x" * 50, None)


async def test_bytes_behind_a_known_answer_still_end_its_connection() -> None:
    RepeatedClient().get(reply())
    asked = RepeatedClient()
    response = asked.get(reply() + b"HTTP/1.1 200 OK\r\n")
    assert (response.body, response.reusable, asked.transport.closed) == (b"hello", False, True)


async def test_known_answer_before_the_request_was_whole_ends_the_connection() -> None:
    RepeatedClient().get(reply())
    asked = RepeatedClient()
    response = asked.get(reply(), more=True)
    assert response.known is not None
    assert (response.reusable, asked.transport.aborted) == (False, True)


@pytest.mark.parametrize("callback", ["response_started", "response_body"])
async def test_listener_that_raises_at_a_known_answer_fails_its_call(callback: str) -> None:
    class Failing(Answer):
        def response_started(self, *heard: object) -> None:
            if callback == "response_started":
                raise LookupError("listener's bug")

        def response_body(self, data: bytes) -> None:
            raise LookupError("listener's bug")

    RepeatedClient().get(reply())
    asked = RepeatedClient()
    response = Failing()
    asked.connection.send(REQUEST, response)
    asked.connection.data_received(reply())
    assert isinstance(response.error, LookupError)
    assert asked.transport.aborted
    assert "complete" not in response.events


async def test_listener_that_gives_up_at_a_known_head_hears_nothing_more() -> None:
    class Leaving(Answer):
        def response_started(self, *heard: object) -> None:
            self.events.append("started")
            asked.connection.abort()

    RepeatedClient().get(reply())
    asked = RepeatedClient()
    response = Leaving()
    asked.connection.send(REQUEST, response)
    asked.connection.data_received(reply())
    assert response.events == ["started"]


async def test_next_request_may_be_sent_from_the_end_of_a_known_answer() -> None:
    class Chained(Answer):
        def response_complete(self, reusable: bool) -> None:
            super().response_complete(reusable)
            asked.connection.send(REQUEST, second)

    asked, second = RepeatedClient(), Answer()
    asked.get(reply())
    asked.connection.send(REQUEST, Chained())
    asked.connection.data_received(reply())
    asked.connection.data_received(reply(b"again"))
    assert second.body == b"again"
    assert second.reusable


async def test_answers_are_told_the_same_known_or_not_however_they_are_cut() -> None:
    chance = random.Random(11)
    whole = [
        reply(),
        reply(b"", b"1.234567"),
        reply(b"x" * 300, b"0.000001", b"x-duration-seconds: 0.5"),
        b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nx-duration-seconds: 0.000123\r\n\r\nuntil the end",
    ]
    known = 0
    for _ in range(CASES):
        data = bytearray(chance.choice(whole))
        if chance.random() < 0.5:
            data[chance.randrange(len(data))] = chance.choice(b"0.\r\n: x\x00")
        at = chance.randrange(len(data)) if chance.random() < 0.3 else len(data)
        pieces = [bytes(piece) for piece in (data[:at], data[at:]) if piece]
        ours = RepeatedClient().get(*pieces)
        assert heard_of(ours) == heard_of(RepeatedClient(forgetful=True).get(*pieces)), pieces
        known += ours.known is not None
    assert CASES // 10 < known < CASES


async def test_heads_that_are_kept_are_bounded() -> None:
    for number in range(KNOWN_HEADS + 10):
        RepeatedClient().get(reply(b"a", b"0.000123", b"x-number: %d" % number))
    assert len(RESPONSE_HEADS) == 10


async def test_connection_whose_answers_never_recur_is_looked_at_no_longer() -> None:
    asked = RepeatedClient()
    for number in range(PATIENCE + 1):
        asked.get(reply(b"a", b"0.000123", b"x-number: %d" % number))
    before = len(RESPONSE_HEADS)
    assert asked.get(reply(b"a", b"0.000123", b"x-number: new")).reusable
    assert asked.get(reply(b"a", b"0.000123", b"x-number: 0")).known is None
    assert len(RESPONSE_HEADS) == before
