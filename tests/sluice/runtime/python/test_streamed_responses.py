"""Generators as responses: their framing, their errors, their pace, their end."""

import json
import socket
import time
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica, read_to_end


def test_async_generator_is_sent_chunked(gallery: Replica) -> None:
    response = gallery.call("/stream")
    assert response.headers["transfer-encoding"] == "chunked"
    assert response.text == "0,1,2,"


def test_streamed_values_become_lines_of_json(gallery: Replica) -> None:
    response = gallery.call("/rows")
    assert response.status == 201
    assert response.headers["content-type"] == "application/x-ndjson"
    assert [json.loads(line) for line in response.body.splitlines()] == [
        {"row": 0},
        {"row": 1},
        {"row": 2},
    ]


def test_generator_that_fails_before_its_first_item_is_a_500(gallery: Replica) -> None:
    assert gallery.call("/early").status == 500


def test_generator_that_fails_in_the_middle_cuts_the_answer(gallery: Replica) -> None:
    with gallery.connect() as connection:
        connection.sendall(b"POST /broken HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
        received = read_to_end(connection)
    assert b"begun" in received
    assert not received.endswith(b"0\r\n\r\n")


def test_generator_without_items_is_an_empty_answer(gallery: Replica) -> None:
    response = gallery.call("/nothing")
    assert (response.status, response.body) == (200, b"")


def test_head_of_a_stream_has_no_body(gallery: Replica) -> None:
    response = gallery.call("/stream", method="HEAD")
    assert (response.status, response.body) == (200, b"")


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_stream_over_exec_timeout_is_cut(tmp_path: Path, kind: str) -> None:
    wait = "await asyncio.sleep(0.02)" if kind == "async def" else "time.sleep(0.02)"
    handler = (
        "import asyncio, time\nasync def handle(event, context):\n    return items()\n"
        f"{kind} items():\n    try:\n        while True:\n            yield 'more'\n"
        f"            {wait}\n    finally:\n        print('closed')\n"
    )
    with Replica(tmp_path, handler, {"exec_timeout": "300ms"}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
            assert not read_to_end(connection).endswith(b"0\r\n\r\n")
        replica.wait_for_log("closed")
        replica.wait_for_metrics("sluice_runtime_timeouts_total 1.0", "http_requests_in_flight 0.0")


def test_event_stream_that_was_asked_for_is_not_cut(tmp_path: Path) -> None:
    handler = (
        "import asyncio\nasync def handle(event, context):\n    return items()\n"
        "async def items():\n    for _ in range(4):\n        await asyncio.sleep(0.1)\n"
        "        yield 'data: x\\n\\n'\n"
    )
    with Replica(tmp_path, handler, {"exec_timeout": "200ms"}) as replica:
        response = replica.ready().call("/", headers={"accept": "text/event-stream"})
    assert response.text == "data: x\n\n" * 4


@pytest.mark.parametrize("kind", ["async def", "def"])
def test_stream_goes_no_faster_than_its_client_reads(tmp_path: Path, kind: str) -> None:
    handler = (
        "SENT = 0\n"
        "async def handle(event, context):\n"
        "    return str(SENT) if event.path == '/sent' else items()\n"
        f"{kind} items():\n    global SENT\n"
        "    while True:\n        SENT += 1\n        yield b'x' * 65536\n"
    )
    with Replica(tmp_path, handler, {}) as replica, replica.ready().connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
        assert connection.recv(1000)
        before, now = -1, 0
        until = time.monotonic() + 60
        while before != now or now == 0:
            assert time.monotonic() < until
            before, now = now, int(replica.call("/sent").text)
            time.sleep(0.1)  # the time in which a stream without brake would send on
        assert now < 200  # sockets' buffers hold some MiB of 64 KiB items
