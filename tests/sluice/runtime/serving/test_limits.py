"""Limits of size and of calls at once, and who frees a slot."""

import os
from pathlib import Path

from tests.sluice.runtime.replica import Replica


def test_body_over_the_limit_is_refused_by_its_length(gallery: Replica) -> None:
    with gallery.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: f\r\ncontent-length: 99999999\r\n\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_chunked_body_over_the_limit_is_refused_on_the_way(gallery: Replica) -> None:
    with gallery.connect() as connection:
        connection.sendall(b"POST /echo HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(9):
            connection.sendall(b"20000\r\n" + bytes(0x20000) + b"\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


def test_body_is_asked_for_when_the_client_waits_to_be_asked(gallery: Replica) -> None:
    with gallery.connect() as connection:
        connection.sendall(
            b"POST /echo HTTP/1.1\r\nhost: f\r\ncontent-length: 2\r\n"
            b"expect: 100-continue\r\nconnection: close\r\n\r\n"
        )
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"hi")
        assert connection.recv(65536).endswith(b"\r\n\r\nhi")


def test_head_at_the_gateways_limits_is_taken_with_what_the_gateway_adds(tmp_path: Path) -> None:
    """100 fields of 64 KiB pass the gateway, which adds call id, forwarding and start time."""
    fields = {f"x-{number}": "v" * 640 for number in range(106)}
    handler = "async def handle(event, context):\n    return len(event.headers)"
    with Replica(tmp_path, handler, {}) as replica:
        response = replica.ready().call("/", headers=fields)
        assert response.status == 200
        assert int(response.body) >= 106


def test_calls_above_max_inflight_get_429_in_of_watchdogs_words(tmp_path: Path) -> None:
    handler = (
        "import asyncio\nHELD = []\n"
        "async def handle(event, context):\n"
        "    if event.path == '/free':\n        return 'free'\n"
        "    HELD.append(asyncio.Event())\n    print('held', flush=True)\n"
        "    await HELD[-1].wait()\n"
    )
    with (
        Replica(tmp_path, handler, {"max_inflight": "1"}) as replica,
        replica.ready().connect() as one,
    ):
        one.sendall(b"POST /hold HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
        replica.wait_for_log("held")
        response = replica.call("/free")
        assert response.status == 429
        assert response.headers["x-openfaas-internal"] == "faas-middleware"
        assert response.headers["content-type"] == "text/plain"
        assert response.text == "Concurrent request limit exceeded. Max concurrent requests: 1\n"
        assert replica.call("/_/ready", method="GET").status == 429
        assert replica.call("/_/health", method="GET").status == 200
        one.close()
        assert replica.wait_for_status("/free", 200).text == "free"


def test_client_that_leaves_a_sync_handler_frees_the_slot_when_it_ends(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    handler = (
        "def handle(event, context):\n"
        "    if event.path == '/long':\n        print('begun')\n"
        f"        open({str(gate)!r}).close()\n    return 'x'\n"
    )
    with Replica(tmp_path, handler, {"max_inflight": "1"}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"POST /long HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
            replica.wait_for_log("begun")
        assert replica.call("/").status == 429
        gate.open("w").close()
        replica.wait_for_status("/", 200)


def test_client_that_leaves_cancels_an_async_handler_and_closes_a_generator(
    tmp_path: Path,
) -> None:
    handler = (
        "import asyncio\n"
        "async def handle(event, context):\n"
        "    if event.path == '/stream':\n        return items()\n"
        "    print('waits')\n"
        "    try:\n        await asyncio.Event().wait()\n"
        "    finally:\n        print('handler cancelled')\n"
        "async def items():\n"
        "    try:\n        while True:\n            yield b'x' * 65536\n"
        "    finally:\n        print('generator closed')\n"
    )
    with Replica(tmp_path, handler, {}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
            replica.wait_for_log("waits")
        replica.wait_for_log("handler cancelled")
        with replica.connect() as connection:
            connection.sendall(b"POST /stream HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
            assert connection.recv(1000)
        replica.wait_for_log("generator closed")
        replica.wait_for_metrics(
            "sluice_runtime_clients_gone_total 2.0", "http_requests_in_flight 0.0"
        )
