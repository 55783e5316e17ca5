"""Bytes of requests in; what the application sees, or the refusal, out."""

import logging

import pytest

from sluice.http1.limits import Limits
from tests.sluice.http1.fakes import Echo, Served, bodies, chunked, get, post, statuses

CHUNKED_HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"


async def test_request_is_told_in_full() -> None:
    served = Served()
    served.feed(post(b"abc", "X-Two: 1", "x-two: 2", "Expect: 100-continue", path="/a/b?c=d&e"))
    exchange = served.call.exchange
    assert (exchange.method, exchange.target, exchange.path, exchange.query) == (
        "POST",
        b"/a/b?c=d&e",
        b"/a/b",
        b"c=d&e",
    )
    assert exchange.headers == [
        (b"host", b"a"),
        (b"content-length", b"3"),
        (b"x-two", b"1"),
        (b"x-two", b"2"),
        (b"expect", b"100-continue"),
    ]
    assert (exchange.http_version, exchange.content_length, exchange.chunked) == ("1.1", 3, False)
    assert exchange.expects_continue
    assert exchange.keep_alive
    assert exchange.upgrade is None
    assert exchange.peer == "10.0.0.9:4711"
    assert served.call.body == b"abc"
    assert served.call.events == ["body", "complete"]


async def test_request_in_single_bytes_is_read_the_same() -> None:
    served = Served(Echo)
    data = post(b"abc", path="/some/path?q=1") + chunked(b"hello", b" world", path="/c")
    served.feed(*(data[i : i + 1] for i in range(len(data))))
    assert bodies(served.output) == [b"/some/path abc", b"/c hello world"]


async def test_unix_client_is_called_unix() -> None:
    served = Served(peername="")
    served.feed(get())
    assert served.call.exchange.peer == "unix"


async def test_empty_header_value_is_kept() -> None:
    served = Served()
    served.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX-Empty:\r\nX-Last: b\r\n\r\n")
    assert served.call.exchange.headers == [(b"host", b"a"), (b"x-empty", b""), (b"x-last", b"b")]


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ncontent-length: 5\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3, 3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -3\r\n\r\nabc", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\n", 400),
        (
            (
                b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n"
                b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (
            (
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
                b"content-length: 3\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: identity\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n", 400),
        (
            (
                b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n"
                b"transfer-encoding: chunked\r\n\r\n0\r\n\r\n"
            ),
            400,
        ),
        (b"POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n folded\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx : b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: b\0c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: b\x01c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: b\rc\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.0\r\nhost: a\r\nhost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a/b\r\n\r\n", 400),
        (b"GE\x01T / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /\x7f HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /a#b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET * HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET a HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /../etc HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /%zz HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET ftp://a/b HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 505),
        (b"GET / HTTP/0.9\r\nhost: a\r\n\r\n", 505),
        (b"GET / HTTP/2.0\r\nhost: a\r\n\r\n", 505),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"CONNECT a:443 HTTP/1.1\r\nhost: a:443\r\n\r\n", 405),
        (b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 200-ok\r\n\r\n", 417),
    ],
)
async def test_bad_head_is_refused_before_the_application_sees_it(data: bytes, status: int) -> None:
    served = Served()
    output = served.feed(data)
    assert statuses(output) == [status]
    assert b"\r\nconnection: close\r\n" in output
    assert served.calls == []
    assert served.transport.eof
    assert served.feed(get()) == output, "nothing is answered after a refusal"


@pytest.mark.parametrize(
    "body",
    [
        b"5 \r\nhello\r\n",
        b"5\nhello\r\n",
        b"0x5\r\nhello\r\n",
        b"-5\r\nhello\r\n",
        b"FFFFFFFFFFFFFFFFF\r\nhello",
        b"5\r\nhelloX\r\n",
        b'5;a="\0"\r\nhello\r\n',
        b"\r\nhello\r\n",
    ],
)
async def test_bad_chunk_is_refused_and_the_call_ended(body: bytes) -> None:
    served = Served()
    output = served.feed(CHUNKED_HEAD, body)
    assert statuses(output) == [400]
    assert b"\r\nconnection: close\r\n" in output
    assert served.call.events[-1] == "gone"
    assert "complete" not in served.call.events


async def test_chunk_extension_is_dropped() -> None:
    served = Served(Echo)
    served.feed(CHUNKED_HEAD, b'5;name="value"\r\nhello\r\n0\r\n\r\n')
    assert bodies(served.output) == [b"/ hello"]


@pytest.mark.parametrize("piece", [b"1;" + b"e" * 1000 + b"\r\nx\r\n", b"1;" + b"e" * 200_000])
async def test_chunk_extensions_without_end_are_refused(piece: bytes) -> None:
    served = Served()
    served.feed(CHUNKED_HEAD)
    fed = 0
    while not served.output and fed < 1_000_000:
        served.feed(piece)
        fed += len(piece)
    assert statuses(served.output) == [400]
    assert served.call.events[-1] == "gone"
    assert fed < 300_000


async def test_tiny_chunks_are_no_abuse() -> None:
    served = Served(Echo)
    served.feed(CHUNKED_HEAD)
    for _ in range(100):
        served.feed(b"1\r\nx\r\n" * 1000)
    served.feed(b"0\r\n\r\n")
    assert bodies(served.output) == [b"/ " + b"x" * 100_000]


async def test_trailers_are_dropped_and_do_not_reach_the_next_request() -> None:
    served = Served(Echo)
    served.feed(chunked(b"hello", end=b"0\r\nhost: evil\r\nx-late: 1\r\n\r\n") + get("/next"))
    assert bodies(served.output) == [b"/ hello", b"/next "]
    assert served.call.exchange.headers == [(b"host", b"a")]
    assert (b"x-late", b"1") not in served.calls[0].exchange.headers


async def test_trailers_without_end_are_refused() -> None:
    served = Served()
    served.feed(chunked(b"hello", end=b"0\r\n"))
    fed = 0
    while not served.output and fed < 1_000_000:
        fed += len(b"x-late: 1\r\n" * 100)
        served.feed(b"x-late: 1\r\n" * 100)
    assert statuses(served.output) == [400]
    assert served.call.events[-1] == "gone"


@pytest.mark.parametrize("size", [1, 1000, 8192, 70_000])
async def test_head_of_64_kib_passes_and_one_byte_more_is_431(size: int) -> None:
    head = get("/", "x-long: " + "a" * (65_536 - len(get("/", "x-long: "))))
    assert len(head) == 65_536
    served = Served(Echo)
    served.feed(*(head[i : i + size] for i in range(0, len(head), size)))
    assert statuses(served.output) == [200]
    served = Served(Echo)
    longer = head.replace(b"x-long: ", b"x-long: a")
    served.feed(*(longer[i : i + size] for i in range(0, len(longer), size)))
    assert statuses(served.output) == [431]
    assert served.calls == []
    assert served.transport.eof


@pytest.mark.parametrize(
    "start", [b"GET / HTTP/1.1\r\nx: ", b"GET /", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nx"]
)
async def test_head_without_end_is_431(start: bytes) -> None:
    served = Served()
    served.feed(start)
    for _ in range(100):
        served.feed(b"x: aaaaaaa\r\n" * 100 if start.endswith(b"\n") else b"a" * 1200)
    assert statuses(served.output) == [431]
    assert served.calls == []


async def test_a_hundred_fields_pass_and_one_more_is_431() -> None:
    served = Served(Echo)
    served.feed(get("/", *(f"x-{n}: 1" for n in range(99))))
    assert statuses(served.output) == [200]
    served = Served(Echo)
    served.feed(get("/", *(f"x-{n}: 1" for n in range(100))))
    assert statuses(served.output) == [431]
    assert served.calls == []


async def test_length_over_the_limit_is_413_before_the_body() -> None:
    served = Served(limits=Limits(body_bytes=10))
    output = served.feed(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\n")
    assert statuses(output) == [413]
    assert b"body over 10 bytes" in output
    assert b"\r\nconnection: close\r\n" in output
    assert served.calls == []


async def test_body_at_the_limit_passes() -> None:
    served = Served(Echo, Limits(body_bytes=10))
    served.feed(post(b"0123456789"), chunked(b"01234", b"56789"))
    assert bodies(served.output) == [b"/ 0123456789"] * 2


async def test_chunks_over_the_limit_are_413_in_the_middle() -> None:
    served = Served(limits=Limits(body_bytes=10))
    output = served.feed(chunked(b"01234", b"567890", b"x"))
    assert statuses(output) == [413]
    assert served.call.body == b"01234"
    assert served.call.events == ["body", "gone"]
    assert served.transport.eof


async def test_chunks_over_the_limit_cut_an_answer_that_was_begun() -> None:
    served = Served(limits=Limits(body_bytes=10))
    served.feed(chunked(b"01234", end=b""))
    served.call.exchange.start_response(200, b"", None)
    served.call.exchange.write(b"part")
    served.feed(b"6\r\n567890\r\n")
    assert served.transport.aborted
    assert served.statuses() == [200]
    assert not served.output.endswith(b"0\r\n\r\n")
    assert served.call.events[-1] == "gone"


@pytest.mark.parametrize("body", ["length", "chunks"])
@pytest.mark.parametrize("pieces", [1, 7, 100_000])
async def test_h2c_offer_is_served_as_plain_request_with_its_body(body: str, pieces: int) -> None:
    framing = "content-length: 5" if body == "length" else "transfer-encoding: chunked"
    data = (
        "POST /u HTTP/1.1\r\nhost: a\r\nconnection: Upgrade, HTTP2-Settings, x-mine\r\n"
        f"upgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n{framing}\r\n\r\n"
    ).encode()
    data += b"hello" if body == "length" else b"5\r\nhello\r\n0\r\n\r\n"
    data += get("/next")
    served = Served(Echo)
    served.feed(*(data[i : i + pieces] for i in range(0, len(data), pieces)))
    assert bodies(served.output) == [b"/u hello", b"/next "]
    exchange = served.calls[0].exchange
    assert exchange.upgrade == b"h2c"
    assert (b"upgrade", b"h2c") in exchange.headers
    assert (b"connection", b"Upgrade, HTTP2-Settings, x-mine") in exchange.headers
    assert served.calls[1].exchange.upgrade is None


async def test_websocket_offer_reaches_the_application_as_a_plain_request() -> None:
    served = Served(Echo)
    served.feed(get("/ws", "connection: upgrade", "upgrade: websocket"))
    assert served.call.exchange.upgrade == b"websocket"
    assert statuses(served.output) == [200]


async def test_upgrade_header_without_connection_token_changes_nothing() -> None:
    served = Served(Echo)
    served.feed(post(b"abc", "upgrade: h2c"))
    assert bodies(served.output) == [b"/ abc"]


@pytest.mark.parametrize("cut", range(1, 28))
async def test_offer_that_is_answered_at_once_leaves_the_next_request_whole(cut: int) -> None:
    """Found by damage: the rest was parsed from within the parser, which then read stray memory."""
    served = Served(Echo)
    following = get("/next")
    served.feed(get("/a", "connection: upgrade", "upgrade: h2c") + following[:cut], following[cut:])
    assert bodies(served.output) == [b"/a ", b"/next "]


async def test_offer_whose_plain_head_is_refused_keeps_the_reason() -> None:
    served = Served()
    served.feed(get("/../x", "connection: upgrade", "upgrade: h2c"))
    assert statuses(served.output) == [400]
    assert b"segments" in served.output


async def test_offer_with_a_bad_body_is_refused() -> None:
    served = Served()
    served.feed(
        b"POST / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n"
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\nabc"
    )
    assert statuses(served.output) == [400]
    assert served.calls == []


async def test_absolute_target_is_reduced_and_its_host_wins() -> None:
    served = Served()
    served.feed(b"GET http://real:81/a//b?x HTTP/1.1\r\nhost: other\r\n\r\n")
    exchange = served.call.exchange
    assert (exchange.target, exchange.path, exchange.query) == (b"/a/b?x", b"/a/b", b"x")
    assert exchange.headers == [(b"host", b"real:81")]


async def test_options_star_is_passed_on() -> None:
    served = Served()
    served.feed(b"OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n")
    assert served.call.exchange.path == b"*"


async def test_unusual_method_is_passed_on() -> None:
    served = Served()
    served.feed(b"PURGE / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert served.call.exchange.method == "PURGE"


async def test_callback_that_raises_is_a_500_with_its_traceback_in_the_log(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parser turns what a callback raises into an error of its own, as if the client erred."""

    def broken(value: bytes) -> None:
        raise KeyError("our own bug")

    monkeypatch.setattr("sluice.http1.request_parser.check_host", broken)
    served = Served()
    with caplog.at_level(logging.ERROR):
        output = served.feed(b"GET / HTTP/1.1\r\nhost: never-seen\r\n\r\n")
    assert statuses(output) == [500]
    assert b"our own bug" not in output
    assert "our own bug" in caplog.text
    assert served.transport.eof
