"""The classic watchdog's contract: a command once per call."""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import PATIENCE, Replica


def command(folder: Path, process: str, environ: Mapping[str, str] | None = None) -> Replica:
    return Replica(folder, None, {"SLUICE_FPROCESS": process} | dict(environ or {}))


def script(folder: Path, text: str) -> str:
    """A command of one word that runs `text` by the shell."""
    path = folder / "script"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


def test_command_gets_the_body_and_its_output_is_the_answer(tmp_path: Path) -> None:
    with command(tmp_path, "cat") as replica:
        response = replica.ready().call("/", b"hello", headers={"content-type": "text/csv"})
        assert (response.status, response.body) == (200, b"hello")
        assert response.headers["content-type"] == "text/csv"
        assert float(response.headers["x-duration-seconds"]) > 0
        log = replica.wait_for_log("Wrote 5 Bytes - Duration: ")
        assert " Forking fprocess.\n" in log
        assert replica.call("/", b"").body == b""


def test_large_bodies_pass_both_ways_at_once(tmp_path: Path) -> None:
    body = os.urandom(20 << 20)
    with command(tmp_path, "cat") as replica:
        assert replica.ready().call("/", body).body == body


def test_command_sees_the_request_in_its_environment(tmp_path: Path) -> None:
    with command(tmp_path, "env", {"MINE": "1", "SLUICE_BODY_LIMIT": "1Mi"}) as replica:
        response = replica.ready().call(
            "/a%20b?x=1&y=2", b"abc", headers={"X-Call-Id": "c-1", "Content-Type": "text/x"}
        )
        lines = dict(line.split("=", 1) for line in response.text.splitlines())
        assert lines["Http_Method"] == "POST"
        assert lines["Http_Path"] == "/a b"
        assert lines["Http_Query"] == "x=1&y=2"
        assert lines["Http_X_Call_Id"] == "c-1"
        assert lines["Http_Content_Type"] == "text/x"
        assert lines["Http_Content_Length"] == lines["Http_ContentLength"] == "3"
        assert lines["Http_Host"] == f"127.0.0.1:{replica.port}"
        assert lines["MINE"] == "1"
        assert "Http_Transfer_Encoding" not in lines
        assert not [name for name in lines if name.startswith("SLUICE_B")]
        assert "SLUICE_FPROCESS" not in lines
        chunked = replica.call("/", iter([b"a"])).text
        assert "Http_Transfer_Encoding=chunked" in chunked
        assert "Http_Content_Length=-1" in chunked


def test_cgi_headers_off_hides_the_request(tmp_path: Path) -> None:
    with command(tmp_path, "env", {"cgi_headers": "false"}) as replica:
        assert "Http_" not in replica.ready().call("/").text


def test_command_is_split_on_single_spaces_and_no_shell_reads_it(tmp_path: Path) -> None:
    with command(tmp_path, "printf <%s> $HOME  two;three") as replica:
        assert replica.ready().call("/").text == "<$HOME><><two;three>"


def test_exit_code_is_a_500_with_the_output(tmp_path: Path) -> None:
    with command(tmp_path, script(tmp_path, "echo out; echo err >&2; exit 3")) as replica:
        response = replica.ready().call("/")
        assert response.status == 500
        assert response.text == "exit status 3\nout\nerr\n"


def test_signal_is_a_500_in_gos_words(tmp_path: Path) -> None:
    with command(tmp_path, script(tmp_path, "kill -TERM $$")) as replica:
        response = replica.ready().call("/")
        assert (response.status, response.text) == (500, "signal: terminated\n")


def test_stderr_goes_to_the_log_when_it_is_not_combined(tmp_path: Path) -> None:
    text = "echo out; echo complaint >&2"
    with command(tmp_path, script(tmp_path, text), {"combine_output": "false"}) as replica:
        assert replica.ready().call("/").text == "out\n"
        replica.wait_for_log("complaint\n")


def test_content_type_setting_beats_the_requests(tmp_path: Path) -> None:
    with command(tmp_path, "cat", {"content_type": "application/json"}) as replica:
        response = replica.ready().call("/", b"{}", headers={"content-type": "text/plain"})
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("method", ["OPTIONS", "HEAD", "TRACE"])
def test_other_methods_are_405(tmp_path: Path, method: str) -> None:
    with command(tmp_path, "cat") as replica:
        assert replica.ready().call("/", method=method).status == 405


def test_exec_timeout_kills_the_whole_group(tmp_path: Path) -> None:
    text = "sleep 600 &\necho $! > pids; echo $$ >> pids\nwait"
    pids, environ = tmp_path / "pids", {"exec_timeout": "500ms"}
    with command(tmp_path, script(tmp_path, f"cd {tmp_path}\n{text}"), environ) as replica:
        replica.ready()
        while not pids.exists() or len(pids.read_text().split()) < 2:
            # On a slow machine the script may be killed before it has said who it is.
            response = replica.call("/")
            assert (response.status, response.text) == (408, "Killed process.\n")
        replica.wait_for_log("Killing process: ")
        assert_gone(pids)
        assert replica.call("/_/health", method="GET").status == 200


def test_client_that_leaves_ends_its_command(tmp_path: Path) -> None:
    text = f"cd {tmp_path}\necho $$ > pids\necho begun >&2\nsleep 600"
    with command(tmp_path, script(tmp_path, text), {"combine_output": "false"}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 0\r\n\r\n")
            replica.wait_for_log("begun")
        assert_gone(tmp_path / "pids")
        assert_no_call_in_flight(replica)


def test_command_that_reads_nothing_still_answers(tmp_path: Path) -> None:
    with command(tmp_path, "echo done") as replica:
        assert replica.ready().call("/", bytes(5 << 20)).text == "done\n"


def test_child_that_keeps_the_output_open_does_not_hold_the_answer(tmp_path: Path) -> None:
    # Longer than anybody here waits for an answer.
    with command(tmp_path, script(tmp_path, "sleep 100 &\necho answer")) as replica:
        assert replica.ready().call("/").text == "answer\n"
        assert_no_call_in_flight(replica)


def test_output_over_its_limit_is_a_500(tmp_path: Path) -> None:
    with command(tmp_path, "yes", {"SLUICE_OUTPUT_LIMIT": "1Mi"}) as replica:
        response = replica.ready().call("/")
        assert response.status == 500
        assert "larger than 1048576 bytes (SLUICE_OUTPUT_LIMIT)" in response.text
        assert_no_call_in_flight(replica)


def test_body_over_its_limit_is_a_413(tmp_path: Path) -> None:
    with command(tmp_path, "cat", {"SLUICE_BODY_LIMIT": "1Ki"}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 1025\r\n\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        with replica.connect() as connection:
            connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ntransfer-encoding: chunked\r\n\r\n")
            connection.sendall(b"401\r\n" + bytes(0x401) + b"\r\n")
            assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")
        assert_no_call_in_flight(replica)


def test_many_calls_at_once_each_get_their_own_answer(tmp_path: Path) -> None:
    with command(tmp_path, "cat") as replica, ThreadPoolExecutor(8) as callers:
        replica.ready()
        bodies = [f"body {number}".encode() for number in range(40)]
        answers = list(callers.map(lambda body: replica.call("/", body).body, bodies))
    assert answers == bodies


def test_calls_above_max_inflight_get_429(tmp_path: Path) -> None:
    text = "echo begun >&2\ncat"
    environ = {"max_inflight": "1", "combine_output": "false"}
    with (
        command(tmp_path, script(tmp_path, text), environ) as replica,
        replica.ready().connect() as connection,
    ):
        connection.sendall(b"POST / HTTP/1.1\r\nhost: f\r\ncontent-length: 1\r\n\r\n")
        replica.wait_for_log("begun")
        assert replica.call("/").status == 429
        connection.sendall(b"x")
        assert connection.recv(65536).endswith(b"\r\n\r\nx")


def test_missing_command_is_found_at_the_start(tmp_path: Path) -> None:
    with command(tmp_path, "no-such-command --flag") as replica:
        event = replica.event()
        assert event["event"] == "failed"
        assert "command 'no-such-command' is not an executable file on PATH" in event["reason"]
        assert replica.exit_code() == 1


def test_command_that_cannot_be_executed_is_a_500(tmp_path: Path) -> None:
    path = tmp_path / "script"
    path.write_text("#!/no/such/interpreter\n")
    path.chmod(0o755)
    with command(tmp_path, str(path)) as replica:
        response = replica.ready().call("/")
        assert response.status == 500
        assert response.text == "the command cannot start: No such file or directory\n"
        assert_no_call_in_flight(replica)


def test_sigterm_lets_a_command_end(tmp_path: Path) -> None:
    text = "echo begun >&2\nsleep 0.5\necho finished"
    environ = {"combine_output": "false"}
    with command(tmp_path, script(tmp_path, text), environ) as replica:
        with ThreadPoolExecutor(1) as callers:
            call = callers.submit(replica.ready().call)
            replica.wait_for_log("begun")
            replica.terminate()
            assert call.result().text == "finished\n"
        assert replica.exit_code() == 0


def assert_gone(pids: Path) -> None:
    """The processes whose ids the file lists have ended; waits for the kernel to say so."""
    until = time.monotonic() + PATIENCE
    for line in pids.read_text().split():
        while _alive(int(line)):
            assert time.monotonic() < until, f"process {line} lives"
            time.sleep(0.01)


def assert_no_call_in_flight(replica: Replica) -> None:
    replica.wait_for_metrics("http_requests_in_flight 0.0")


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False  # the second where it ends between open and read
    return stat.rpartition(")")[2].split()[0] != "Z"
