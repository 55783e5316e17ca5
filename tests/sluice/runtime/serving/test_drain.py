"""SIGTERM: calls in flight are finished, within write_timeout, and the process exits."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica


def test_sigterm_answers_what_was_begun_and_exits_0(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    handler = (
        "def handle(event, context):\n    print('begun')\n"
        f"    open({str(gate)!r}).close()\n    return 'finished'\n"
    )
    with Replica(tmp_path, handler, {}) as replica, ThreadPoolExecutor(1) as callers:
        call = callers.submit(replica.ready().call)
        replica.wait_for_log("begun")
        replica.terminate()
        replica.wait_for_log("draining")
        gate.open("w").close()
        response = call.result()
        assert (response.status, response.text) == (200, "finished")
        assert replica.exit_code() == 0
        with pytest.raises(ConnectionRefusedError):
            replica.connect()


def test_drain_is_bounded_by_write_timeout(tmp_path: Path) -> None:
    handler = (
        "import threading\ndef handle(event, context):\n    print('begun')\n"
        "    threading.Event().wait()\n"
    )
    environ = {"write_timeout": "300ms", "exec_timeout": "0"}
    with Replica(tmp_path, handler, environ) as replica, replica.ready().connect() as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
        replica.wait_for_log("begun")
        replica.terminate()
        assert replica.exit_code() == 0
        assert "calls cut at write_timeout" in replica.log


def test_health_and_ready_turn_503_while_new_calls_are_still_taken(tmp_path: Path) -> None:
    handler = "async def handle(event, context):\n    return 'served'\n"
    with Replica(tmp_path, handler, {"healthcheck_interval": "60s"}) as replica:
        replica.ready().terminate()
        replica.wait_for_log("draining")
        assert replica.call("/_/health", method="GET").status == 503
        assert replica.call("/_/ready", method="GET").status == 503
        assert replica.call("/").text == "served"


@pytest.mark.parametrize(
    "handler",
    [
        "import time\nprint('starting')\nwhile True:\n    time.sleep(0.05)\n",
        (
            "import asyncio\nasync def init():\n    print('starting')\n"
            "    await asyncio.Event().wait()\ndef handle(req): ...\n"
        ),
    ],
    ids=["import", "init"],
)
def test_sigterm_before_ready_ends_the_replica(tmp_path: Path, handler: str) -> None:
    with Replica(tmp_path, handler, {}) as replica:
        replica.wait_for_log("starting")
        replica.terminate()
        assert replica.exit_code() == 0


def test_thread_a_handler_left_does_not_keep_the_replica(tmp_path: Path) -> None:
    handler = (
        "import asyncio, threading\nasync def handle(event, context):\n"
        "    asyncio.get_running_loop().run_in_executor(None, threading.Event().wait)\n"
        "    return 'left'\n"
    )
    with Replica(tmp_path, handler, {}) as replica:
        assert replica.ready().call("/").text == "left"
        replica.terminate()
        assert replica.exit_code() == 0
