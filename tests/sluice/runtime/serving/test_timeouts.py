"""exec_timeout, X-Timeout and read_timeout, and a replica that asks to be replaced."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.sluice.runtime.replica import Replica


def test_bad_x_timeout_is_named(gallery: Replica) -> None:
    response = gallery.call("/echo", headers={"x-timeout": "soon"})
    assert response.status == 400
    assert response.text.startswith("X-Timeout: 'soon': expected a duration")


def test_async_handler_over_exec_timeout_is_cancelled_and_the_replica_stays(tmp_path: Path) -> None:
    handler = (
        "import asyncio\n"
        "async def handle(event, context):\n"
        "    if event.body == b'fast':\n        return 'fast'\n"
        "    try:\n        await asyncio.Event().wait()\n"
        "    finally:\n        print('cleaned up')\n"
    )
    with Replica(tmp_path, handler, {"exec_timeout": "200ms"}) as replica:
        response = replica.ready().call("/", b"slow")
        assert response.status == 504
        assert response.headers["x-openfaas-internal"] == "of-watchdog"
        assert response.body == b""
        replica.wait_for_log("cleaned up")
        assert replica.call("/", b"fast").text == "fast"
        replica.wait_for_metrics("sluice_runtime_timeouts_total 1.0", "http_requests_in_flight 0.0")


def test_x_timeout_shortens_and_never_extends(tmp_path: Path) -> None:
    handler = (
        "import asyncio\nasync def handle(event, context):\n    await asyncio.Event().wait()\n"
    )
    # The other of the two would be an hour, and nobody waits for that.
    for limit, asked in (("1h", "100ms"), ("100ms", "1h")):
        with Replica(tmp_path, handler, {"exec_timeout": limit}) as replica:
            assert replica.ready().call("/", headers={"x-timeout": asked}).status == 504


def test_body_that_does_not_arrive_is_a_408(tmp_path: Path) -> None:
    handler = "async def handle(event, context):\n    return 'whole'\n"
    with (
        Replica(tmp_path, handler, {"read_timeout": "200ms"}) as replica,
        replica.ready().connect() as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 10\r\n\r\nhalf")
        response = connection.recv(65536)
        assert response.startswith(b"HTTP/1.1 408 ")
        assert b"did not arrive within 0.2 s" in response


STUCK = (
    "import threading\n"
    "def handle(event, context):\n"
    "    if event.path == '/slow':\n"
    "        print('slow begun')\n        open('GATE').close()\n        return 'done'\n"
    "    print('stuck')\n"
    "    while True:\n        threading.Event().wait(60)\n"
)


def test_stuck_sync_handler_is_answered_504_and_the_replica_asks_to_be_replaced(
    tmp_path: Path,
) -> None:
    gate, environ = tmp_path / "gate", {"exec_timeout": "4s"}
    os.mkfifo(gate)
    source = STUCK.replace("GATE", str(gate))
    with Replica(tmp_path, source, environ) as replica, ThreadPoolExecutor(2) as callers:
        stuck = callers.submit(replica.ready().call, "/stuck")
        replica.wait_for_log("stuck\n")
        assert replica.call("/_/health", method="GET").text == "OK"
        # Midway: in flight when the other one is given up, and not over its own time by then.
        time.sleep(2)
        slow = callers.submit(replica.call, "/slow")
        replica.wait_for_log("slow begun")
        response = stuck.result()
        event = replica.event()
        gate.open("w").close()
        assert response.status == 504
        assert response.headers["x-openfaas-internal"] == "of-watchdog"
        assert event["event"] == "replace"
        assert "exec_timeout of 4 s passed" in event["reason"]
        assert slow.result().text == "done"
        assert replica.exit_code() == 0


def test_x_timeout_on_a_stuck_sync_handler_does_not_cost_the_replica(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    handler = (
        "def handle(event, context):\n    if event.path == '/slow':\n"
        f"        open({str(gate)!r}).close()\n    return 'x'\n"
    )
    with Replica(tmp_path, handler, {"exec_timeout": "60s", "max_inflight": "1"}) as replica:
        assert replica.ready().call("/slow", headers={"x-timeout": "50ms"}).status == 504
        # Its thread still runs, so its slot is not free.
        assert replica.call("/").status == 429
        gate.open("w").close()
        replica.wait_for_status("/", 200)
