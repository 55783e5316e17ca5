"""Heads that come again: exactly what the parser would make of them, or the parser does it."""

import random

import pytest

from sluice.http1.connection import ServerConnection
from sluice.http1.exchange import Exchange
from sluice.http1.head_cache import KNOWN_HEADS, PATIENCE, HeadCache
from sluice.http1.limits import Limits
from sluice.http1.request_parser import RequestParser
from tests.sluice.http1.fakes import Call, Echo, FakeTransport, Served, bodies, chunked, get, post


class Planned(Echo):
    """An echo that leaves a plan whenever it is asked for one."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__(exchange)
        self.prepared = exchange.prepared
        if exchange.seen_before:
            exchange.prepared = exchange.target


class Parsed:
    """How often a connection fed its parser."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.times = 0
        feed = RequestParser.feed

        def counting(reader: RequestParser, data: bytes) -> None:
            self.times += 1
            feed(reader, data)

        monkeypatch.setattr(RequestParser, "feed", counting)


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    return Parsed(monkeypatch)


async def test_head_is_parsed_twice_and_then_known_with_its_plan(parsed: Parsed) -> None:
    served = Served(Planned)
    for body in (b"a", b"b", b"c", b"d"):
        served.feed(post(body, "x-y: 1", path="/f?q=1"))
    assert parsed.times == 2
    assert bodies(served.output) == [b"/f a", b"/f b", b"/f c", b"/f d"]
    plans = [call.prepared for call in served.calls if isinstance(call, Planned)]
    assert plans == [None, None, b"/f?q=1", b"/f?q=1"]


async def test_known_head_makes_the_same_exchange_as_the_parser() -> None:
    seen = []

    class Keeping(Planned):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            names = ("method", "target", "path", "query", "headers", "content_length", "peer")
            rest = ("chunked", "expects_continue", "upgrade", "keep_alive", "http_version")
            seen.append([getattr(exchange, name) for name in (*names, *rest)])

    served = Served(Keeping)
    for _ in range(3):
        served.feed(post(b"abc", "Content-Type: text/x", "connection: keep-alive", path="/%66?a=b"))
    assert seen[2] == seen[1] == seen[0]


async def test_head_is_known_on_another_connection_with_that_ones_peer(parsed: Parsed) -> None:
    heads = HeadCache()
    peers = []

    def application(exchange: Exchange) -> Call:
        peers.append(exchange.peer)
        return Planned(exchange)

    for port in (1, 2, 3):
        protocol = ServerConnection(application, Limits(), set(), heads)
        protocol.connection_made(FakeTransport(("10.0.0.9", port)))
        protocol.data_received(post(b"x"))
    assert parsed.times == 2
    assert peers == ["10.0.0.9:1", "10.0.0.9:2", "10.0.0.9:3"]


async def test_head_without_a_plan_is_always_parsed(parsed: Parsed) -> None:
    served = Served(Echo)
    for _ in range(5):
        served.feed(post(b"x"))
    assert parsed.times == 5


@pytest.mark.parametrize(
    "message",
    [
        chunked(b"x"),
        post(b"x", "expect: 100-continue"),
        post(b"x", "connection: upgrade", "upgrade: h2c"),
        get("/", "connection: keep-alive", version="1.0"),
    ],
    ids=["chunked", "expect", "upgrade", "HTTP/1.0"],
)
async def test_head_that_is_not_plain_is_always_parsed(message: bytes) -> None:
    served = Served(Planned)
    for _ in range(4):
        served.feed(message)
    assert len(served.calls) == 4
    assert all(call.prepared is None for call in served.calls if isinstance(call, Planned))
    assert len(bodies(served.output.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b""))) == 4


async def test_known_head_with_a_body_in_pieces_or_a_request_behind_is_parsed() -> None:
    served = Served(Planned)
    message = post(b"body", path="/f")
    served.feed(message, message, message)
    served.feed(message[:-2], message[-2:], message + message, message[:9], message[9:], message)
    assert bodies(served.output) == [b"/f body"] * 8


async def test_known_head_behind_a_call_in_flight_waits_for_its_turn() -> None:
    class SlowOrPlanned(Planned):
        def body_complete(self) -> None:
            if not self.exchange.path.startswith(b"/slow"):
                super().body_complete()

    served = Served(SlowOrPlanned)
    known = post(b"x", path="/f")
    served.feed(known, known, known, get("/slow"), known)
    assert len(served.calls) == 4
    served.call.response(b"slow")
    assert bodies(served.output) == [b"/f x", b"/f x", b"/f x", b"slow", b"/f x"]


async def test_known_head_in_any_cut_is_answered_as_if_it_were_not_known() -> None:
    generator = random.Random(7)
    messages = [post(b"a", path="/a"), post(b"b" * 30, path="/b"), get("/c"), chunked(b"d")]
    for size in (1, 7, 60, 131, 400):
        served, plain = Served(Planned), Served(Echo)
        for message in messages * 3:
            served.feed(message)
            plain.feed(message)
        stream = b"".join(generator.choices(messages, k=60))
        for position in range(0, len(stream), size):
            served.feed(stream[position : position + size])
            plain.feed(stream[position : position + size])
        assert bodies(served.output) == bodies(plain.output)


async def test_head_in_front_of_another_is_not_taken_for_that_one() -> None:
    """A client that pipelines would be answered as whoever sent both first."""
    first = get("/first")
    second = post(b"s" * 80, path="/second")
    cut = len(second) - (second.index(b"\r\n\r\n") + 4)  # as long as the second's body
    served = Served(Planned)
    for _ in range(3):
        served.feed(first + second[:cut], second[cut:])
    assert bodies(served.output) == [b"/first ", b"/second " + b"s" * 80] * 3


async def test_only_the_first_head_of_a_read_is_asked_for_a_plan() -> None:
    recurring = []

    class Watched(Planned):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            recurring.append(exchange.seen_before)

    served = Served(Watched)
    served.feed(get("/a") + get("/b"), get("/a") + get("/b"), get("/a"))
    assert recurring == [False, False, True, False, True]
    assert all(call.prepared is None for call in served.calls if isinstance(call, Planned))


async def test_empty_lines_in_front_of_a_request_are_not_taken_for_its_head() -> None:
    message = post(b"s" * 80, path="/f")
    lines = b"\r\n\r\n"
    cut = len(message) - (message.index(lines) + 4)  # as long as its body
    served = Served(Planned)
    for _ in range(3):
        served.feed(lines + message[:cut], message[cut:])
    assert bodies(served.output) == [b"/f " + b"s" * 80] * 3


@pytest.mark.parametrize("moment", ["head", "piece"])
async def test_response_before_the_end_of_a_request_closes_whether_its_head_is_known_or_not(
    moment: str,
) -> None:
    class Early(Planned):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            self.early = len(served.calls) == known
            if self.early and moment == "head":
                self.response(b"early")

        def body_received(self, data: bytes) -> None:
            super().body_received(data)
            if self.early:
                self.response(b"early")

    for known in (0, 2):
        served = Served(Early)
        served.feed(*[post(b"x")] * (known + 1))
        assert served.output.endswith(b"\r\nconnection: close\r\n\r\nearly")
        assert served.transport.eof
        assert not served.transport.closed


async def test_two_lengths_behind_the_same_name_are_two_heads() -> None:
    served = Served(Planned)
    for body in (b"a", b"a", b"a", b"bc", b"bc", b"bc"):
        served.feed(post(body, path="/f"))
    assert bodies(served.output)[-1] == b"/f bc"


async def test_new_plan_of_a_known_head_takes_the_place_of_the_old() -> None:
    plans: list[object] = []

    class Replanned(Planned):
        def __init__(self, exchange: Exchange) -> None:
            super().__init__(exchange)
            plans.append(self.prepared)
            exchange.prepared = b"newer" if self.prepared == b"/f" else exchange.prepared

    served = Served(Replanned)
    for _ in range(4):
        served.feed(post(b"x", path="/f"))
    assert plans == [None, None, b"/f", b"newer"]


async def test_heads_that_are_kept_are_bounded_and_never_long() -> None:
    heads = HeadCache()
    protocol = ServerConnection(Planned, Limits(), set(), heads)
    protocol.connection_made(FakeTransport())
    for number in range(PATIENCE):
        protocol.data_received(get(f"/{number}", "x-long: " + "y" * 3000))
    assert not heads
    for _ in range(3 * KNOWN_HEADS // PATIENCE):
        protocol = ServerConnection(Planned, Limits(), set(), heads)
        protocol.connection_made(FakeTransport())
        for _ in range(PATIENCE):
            protocol.data_received(get(f"/{random.random()}"))
        assert 0 < len(heads) <= KNOWN_HEADS


async def test_connection_whose_heads_never_recur_is_looked_at_no_longer() -> None:
    heads = HeadCache()
    protocol = ServerConnection(Planned, Limits(), set(), heads)
    protocol.connection_made(FakeTransport())
    for number in range(2 * PATIENCE):
        protocol.data_received(get(f"/{number}"))
    assert len(heads) == PATIENCE + 1


async def test_application_that_raises_for_a_known_head_gives_500() -> None:
    class Failing(Planned):
        def body_complete(self) -> None:
            if self.prepared is not None:
                raise RuntimeError("broken")
            super().body_complete()

    served = Served(Failing)
    served.feed(post(b"x"), post(b"x"), post(b"x"))
    assert served.statuses() == [200, 200, 500]
    assert served.transport.closed or served.transport.eof


async def test_client_that_leaves_a_call_of_a_known_head_is_told_of() -> None:
    class Held(Planned):
        def body_complete(self) -> None:
            if self.prepared is None:
                super().body_complete()

    served = Served(Held)
    served.feed(post(b"x"), post(b"x"), post(b"x"))
    served.protocol.connection_lost(None)
    assert served.call.events[-1] == "gone"
