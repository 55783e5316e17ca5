"""Calls that arrive together, answered by one run of handle_many."""

import socket
from pathlib import Path

import pytest

from tests.runtime.replica import Replica

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
ANSWERED_SECONDS = 10.0


def together(replica: Replica, *paths: str) -> list[bytes]:
    """The bodies of calls whose bytes reach the replica at once, each on its own connection."""
    connections = [socket.create_connection(("127.0.0.1", replica.port)) for _ in paths]
    # Accepted and idle before the calls come, so that one turn of the loop reads all of them.
    for connection in connections:
        connection.settimeout(ANSWERED_SECONDS)
        connection.sendall(b"GET /_/health HTTP/1.1\r\nhost: x\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    for path, connection in zip(paths, connections, strict=True):
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    answers = [connection.recv(4096).partition(b"\r\n\r\n")[2] for connection in connections]
    for connection in connections:
        connection.close()
    return answers


@pytest.fixture
def replica(tmp_path: Path) -> Replica:
    return Replica(tmp_path, HANDLER, {})


def test_lone_call_is_the_handlers(replica: Replica) -> None:
    with replica.ready():
        assert replica.call("/one").text == "alone /one"


def test_calls_that_come_together_are_answered_each_with_its_own(replica: Replica) -> None:
    with replica.ready():
        seen: set[bytes] = set()
        for _ in range(50):
            answers = together(replica, "/a", "/b", "/alone")
            assert [answer.split()[1] for answer in answers] == [b"/a", b"/b", b"/alone"]
            assert answers[2] == b"alone /alone"
            seen |= set(answers)
        assert {b"3 /a", b"2 /a"} & seen, "no two calls were gathered"


def test_call_that_breaks_the_gathering_harms_no_other(replica: Replica) -> None:
    with replica.ready():
        for _ in range(20):
            answers = together(replica, "/breaks", "/b")
            assert answers[0] == b"alone /breaks"
            assert answers[1].endswith(b" /b")


def test_wrong_answer_fails_its_call_alone(replica: Replica) -> None:
    with replica.ready():
        for _ in range(20):
            wrong, right = together(replica, "/wrong", "/b")
            assert right.endswith(b" /b")
            assert wrong == b"alone /wrong" or b"failed" in wrong
