"""Damaged bytes, many of them, with a fixed seed: never an error of ours, never a wrong order."""

import random

from sluice.http1.client import ClientConnection
from sluice.http1.errors import Http1Error
from tests.sluice.http1.fakes import (
    Answer,
    Echo,
    FakeTransport,
    Served,
    chunked,
    get,
    post,
    statuses,
)

CASES = 20_000
TOKENS = [
    b"\r\n",
    b"\0",
    b" ",
    b"\t",
    b":",
    b"chunked",
    b"content-length: 7\r\n",
    b"\xff",
    b"0\r\n\r\n",
    b"%",
]
TOKENS += [
    b"connection: upgrade\r\nupgrade: h2c\r\n",
    b"transfer-encoding: chunked\r\n",
    b"/../",
    b"HTTP/1.0",
]
ANSWERS = (
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\nx: y\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nlate: 1\r\n\r\n",
)


def damaged(data: bytes, chance: random.Random) -> bytes:
    """`data` with one to three bytes changed, lost, doubled or replaced by a telling token."""
    result = bytearray(data)
    for _ in range(chance.randint(1, 3)):
        place = chance.randrange(len(result))
        match chance.randrange(4):
            case 0:
                result[place] = chance.randrange(256)
            case 1:
                del result[place : place + chance.randint(1, 9)]
            case 2:
                result[place:place] = result[place : place + chance.randint(1, 30)]
            case _:
                result[place:place] = chance.choice(TOKENS)
    return bytes(result)


def cut(data: bytes, chance: random.Random) -> list[bytes]:
    """`data` in one to four pieces."""
    places = sorted(chance.randrange(len(data) + 1) for _ in range(chance.randint(0, 3)))
    return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True) if a < b]


async def test_damaged_requests_are_never_our_error() -> None:
    class SometimesLate(Echo):
        def body_complete(self) -> None:
            if chance.random() < 0.5:
                super().body_complete()
            else:
                self.events.append("complete")

    chance = random.Random(7)
    whole = get("/a") + post(b"hello", path="/b") + chunked(b"abc", b"d", path="/c") + get("/d?e")
    refused = 0
    for _ in range(CASES):
        served = Served(SometimesLate)
        for piece in cut(damaged(whole, chance), chance):
            served.feed(piece)
            while served.calls and served.call.events[-1:] == ["complete"]:
                served.call.events.append("answered")
                served.call.response(b"late")
        found = statuses(served.output)
        assert all(status == 200 or 400 <= status < 500 or status in {501, 505} for status in found)
        assert 200 not in found[found.index(400) :] if 400 in found else True
        refused += bool(found) and found[-1] != 200
        served.protocol.connection_lost(None)
    assert CASES // 4 < refused < CASES


async def test_damaged_answers_fail_or_end_once() -> None:
    chance = random.Random(8)
    failed = 0
    for _ in range(CASES):
        connection = ClientConnection()
        connection.connection_made(FakeTransport())
        response = Answer()
        connection.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", response, chance.random() < 0.1)
        for piece in cut(damaged(chance.choice(ANSWERS), chance), chance):
            connection.data_received(piece)
        connection.connection_lost(None)
        assert response.events.count("complete") + response.events.count("failed") == 1
        assert response.events.count("started") <= 1
        assert response.error is None or isinstance(response.error, Http1Error)
        failed += response.error is not None
    assert CASES // 10 < failed < CASES
