"""How a replica starts: its handler, its settings, its socket; and how it fails to."""

import socket
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica, read_to_end


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (None, r"handler.py is missing"),
        ("def handle(:", "SyntaxError"),
        ("import sys\nsys.exit(0)", "sys.exit(0) called while being imported"),
        (
            "def handle(req): ...\ndef init():\n    raise OSError('no model')",
            "function/handler.py line 3: OSError: no model",
        ),
        (
            "def handle(req): ...\nasync def init():\n    raise OSError('no model')",
            "function/handler.py line 3: OSError: no model",
        ),
    ],
)
def test_function_that_cannot_be_served_says_why(
    tmp_path: Path, handler: str | None, said: str
) -> None:
    with Replica(tmp_path, handler, {}) as replica:
        event = replica.event()
        assert event["event"] == "failed"
        assert said in event["reason"]
        assert replica.exit_code() == 1
        assert said in replica.log


def test_bad_setting_ends_with_exit_code_2_and_its_name(tmp_path: Path) -> None:
    with Replica(tmp_path, "def handle(req): ...", {"exec_timeout": "soon"}) as replica:
        event = replica.event()
        assert event["event"] == "failed"
        assert "exec_timeout='soon': expected a duration" in event["reason"]
        assert replica.exit_code() == 2


def test_init_has_run_before_ready(tmp_path: Path) -> None:
    handler = "def init():\n    print('init ran')\nasync def handle(req):\n    return 'x'\n"
    with Replica(tmp_path, handler, {}) as replica:
        assert "init ran" in replica.ready().log


def test_failed_start_does_not_wait_for_a_thread_of_the_handler(tmp_path: Path) -> None:
    handler = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n1 / 0\n"
    with Replica(tmp_path, handler, {}) as replica:
        assert replica.event()["event"] == "failed"
        assert replica.exit_code() == 1


def test_unix_socket_is_served_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "replica.sock"
    environ = {"SLUICE_LISTEN_FD": "", "SLUICE_SOCKET": str(path)}
    handler = "async def handle(event, context):\n    return 'by path'\n"
    with Replica(tmp_path, handler, environ) as replica:
        replica.ready()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(b"GET / HTTP/1.1\r\nhost: f\r\nconnection: close\r\n\r\n")
            assert read_to_end(connection).endswith(b"by path")
        replica.terminate()
        assert replica.exit_code() == 0
        assert not path.exists()


def test_port_that_is_taken_is_a_failed_start(tmp_path: Path) -> None:
    with socket.create_server(("0.0.0.0", 0)) as owner:
        environ = {"SLUICE_LISTEN_FD": "", "port": str(owner.getsockname()[1])}
        with Replica(tmp_path, "def handle(req): ...", environ) as replica:
            event = replica.event()
            assert event["event"] == "failed"
            assert "address already in use" in event["reason"]
            assert replica.exit_code() == 1
