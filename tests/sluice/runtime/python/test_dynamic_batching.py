"""Calls that arrive together, answered by one run of handle_many."""

import os
import signal
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica

HANDLER = """
async def handle(event, context):
    return "alone " + event.path

def handle_many(calls):
    if any(event.path == "/breaks" for event, _ in calls):
        raise ValueError("all at once")
    return [
        None if event.path == "/alone" else {1} if event.path == "/wrong"
        else f"{len(calls)} {event.path}"
        for event, _ in calls
    ]
"""


def together(replica: Replica, *paths: str) -> list[bytes]:
    """The bodies of calls whose bytes reach the replica at once, each on its own connection."""
    connections = [replica.connect() for _ in paths]
    # Accepted and idle before the calls come, and stopped while they do: one turn of the loop
    # reads all of them.
    for connection in connections:
        connection.sendall(b"GET /_/health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    stop(replica.process.pid)
    for path, connection in zip(paths, connections, strict=True):
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    os.kill(replica.process.pid, signal.SIGCONT)
    bodies = [connection.recv(4096).partition(b"\r\n\r\n")[2] for connection in connections]
    for connection in connections:
        connection.close()
    return bodies


def stop(pid: int) -> None:
    """Stop a process; returns once it stands still."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path, HANDLER, {})


def test_lone_call_is_the_handlers(replica: Replica) -> None:
    with replica.ready():
        assert replica.call("/one").text == "alone /one"


def test_calls_that_come_together_are_answered_each_with_its_own(replica: Replica) -> None:
    with replica.ready():
        assert together(replica, "/a", "/b", "/alone") == [b"3 /a", b"3 /b", b"alone /alone"]


def test_call_that_breaks_the_gathering_harms_no_other(replica: Replica) -> None:
    with replica.ready():
        assert together(replica, "/breaks", "/b") == [b"alone /breaks", b"alone /b"]


def test_wrong_answer_fails_its_call_alone(replica: Replica) -> None:
    with replica.ready():
        wrong, right = together(replica, "/wrong", "/b")
        assert right == b"2 /b"
        assert b"failed" in wrong


@pytest.mark.parametrize("calls", [1, 3])
def test_call_that_is_left_to_the_handler_is_broken_off_at_exec_timeout(
    calls: int, tmp_path: Path
) -> None:
    endless = HANDLER.replace('return "alone " + event.path', "await asyncio.Event().wait()")
    with Replica(tmp_path, "import asyncio\n" + endless, {"exec_timeout": "200ms"}) as replica:
        replica.ready()
        connections = [replica.connect() for _ in range(calls)]
        for connection in connections:
            connection.sendall(b"GET /alone HTTP/1.1\r\nhost: x\r\n\r\n")
        for connection in connections:
            assert connection.recv(4096).startswith(b"HTTP/1.1 504 ")
            connection.close()
