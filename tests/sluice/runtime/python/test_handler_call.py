"""Handlers in Python: what they are given, what callers get, sync ones on threads."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica


def test_echo_answers_the_bytes_it_got(gallery: Replica) -> None:
    body = os.urandom(200_000)
    response = gallery.call("/echo", body)
    assert response.status == 200
    assert response.body == body
    assert float(response.headers["x-duration-seconds"]) > 0


def test_chunked_body_is_gathered(gallery: Replica) -> None:
    response = gallery.call("/echo", iter([b"one,", b"two,", b"three"]))
    assert response.body == b"one,two,three"


def test_predict_takes_and_gives_json(gallery: Replica) -> None:
    response = gallery.call("/predict?model=iris%40champion", json.dumps({"instances": [[1, 2]]}))
    assert response.headers["content-type"] == "application/json"
    assert json.loads(response.body) == {"predictions": [3], "model": "iris@champion"}


def test_event_and_context_say_who_calls_and_who_answers(gallery: Replica) -> None:
    response = gallery.call(
        "/about", headers={"x-mine": "yes", "X-Call-Id": "call-7"}, method="PUT"
    )
    about = json.loads(response.body)
    assert 0 < about.pop("remaining") <= 30
    assert about == {
        "method": "PUT",
        "header": "yes",
        "call": "call-7",
        "name": "tested",
        "namespace": "fn",
        "host": "h",
        "secret": "s3cret",
        "init": "by init",
    }


def test_call_id_is_made_when_none_came_and_not_echoed_when_one_did(gallery: Replica) -> None:
    assert len(gallery.call("/echo").headers["x-call-id"]) == 36
    assert gallery.call("/echo", headers={"x-call-id": "c"}).headers["x-call-id"] is None


def test_handler_sees_no_variable_of_the_runtime(gallery: Replica) -> None:
    environ = json.loads(gallery.call("/environment").body)
    assert environ["MINE"] == "1"
    assert environ["ORT_DISABLE_TELEMETRY"] == "1"
    assert environ["SLUICE_REPLICA"] == "r-1"
    for variable in ("SLUICE_LISTEN_FD", "SLUICE_STATUS_FD", "SLUICE_BUNDLE", "SLUICE_BODY_LIMIT"):
        assert variable not in environ


def test_handler_that_raises_tells_the_call_id_alone(gallery: Replica) -> None:
    response = gallery.call("/raises", headers={"x-call-id": "call-42"})
    assert response.status == 500
    assert response.text == "call call-42 failed\n"
    log = gallery.wait_for_log("KeyError: 'secret-7'")
    assert "call_id=call-42" in log
    assert "Traceback" in log


def test_handler_that_exits_fails_its_call_only(gallery: Replica) -> None:
    assert gallery.call("/exits").status == 500
    gallery.wait_for_log("the handler called sys.exit(3)")
    assert gallery.call("/echo", b"still here").body == b"still here"


def test_wrong_reply_is_a_500_and_the_log_says_what_came(gallery: Replica) -> None:
    response = gallery.call("/wrong", headers={"x-call-id": "call-43"})
    assert (response.status, response.text) == (500, "call call-43 failed\n")
    assert "call_id=call-43" in gallery.wait_for_log("set is not JSON")


def test_body_that_is_no_json_is_a_400_that_says_where(gallery: Replica) -> None:
    response = gallery.call("/rows_of", b'{"rows": [1,,2]}')
    assert response.status == 400
    assert "the request body is not JSON: " in response.text
    assert "column 13" in response.text
    assert gallery.call("/rows_of", b"\xff\xfe\xff").status == 400
    assert gallery.call("/rows_of", b"[" * 200_000).status == 400
    assert gallery.call("/rows_of", b'{"rows": [1]}').body == b"[1]"


def test_exit_code_of_a_handlers_child_is_its_own(gallery: Replica) -> None:
    assert gallery.call("/child").body == b"3"


def test_status_body_and_headers_are_the_handlers(gallery: Replica) -> None:
    response = gallery.call("/status")
    assert (response.status, response.text, response.headers["x-tea"]) == (418, "teapot", "green")


def test_handler_may_use_a_timeout_of_its_own(gallery: Replica) -> None:
    assert gallery.call("/timed").text == "in time"


def test_print_and_logging_reach_the_log_at_once(gallery: Replica) -> None:
    assert gallery.call("/prints", b"words").status == 200
    log = gallery.wait_for_log("printed words\n")
    assert "level=info logger=mine msg=logged rows=3" in log


def test_logs_are_json_where_the_setting_says_so(tmp_path: Path) -> None:
    handler = (
        "import logging\nasync def handle(event, context):\n"
        "    logging.getLogger('mine').info('logged', extra={'rows': 3})\n"
        "    raise KeyError('x\\ny')\n"
    )
    with Replica(
        tmp_path, handler, {"SLUICE_LOG_FORMAT": "json", "SLUICE_REPLICA": "r-1"}
    ) as replica:
        assert replica.ready().call("/", headers={"x-call-id": "c-1"}).status == 500
        log = replica.wait_for_log("KeyError")
        records = {record["msg"]: record for record in map(json.loads, log.splitlines())}
    assert records["logged"]["rows"] == 3
    raised = records["handler raised"]
    assert (raised["call_id"], raised["function"], raised["replica"]) == ("c-1", "tested.fn", "r-1")
    assert raised["exception"].startswith("Traceback")


SYNC = """
import threading, time
from .numbers import FACTOR

def init():
    global READY
    READY = True

def handle(event, context):
    if event.path == "/stream":
        return numbers()
    if event.path == "/together":
        BARRIER.wait()
        return threading.current_thread().name
    if event.path == "/later":
        return later()
    if event.path == "/raises":
        raise ValueError("on a thread")
    return [READY, FACTOR * len(event.body)]

BARRIER = threading.Barrier(3, timeout=60)

def numbers():
    for number in range(3):
        yield f"{number};"

async def later():
    return "awaited"
"""


@pytest.fixture(scope="module")
def sync(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("sync")
    (folder / "function").mkdir()
    (folder / "function" / "numbers.py").write_text("FACTOR = 2\n")
    with Replica(folder, SYNC, {"max_inflight": "3"}) as replica:
        yield replica.ready()


def test_sync_handler_answers_from_a_thread(sync: Replica) -> None:
    assert json.loads(sync.call("/", b"abc").body) == [True, 6]


def test_sync_handlers_run_at_the_same_time(sync: Replica) -> None:
    with ThreadPoolExecutor(3) as callers:
        names = {response.text for response in callers.map(sync.call, ["/together"] * 3)}
    assert len(names) == 3


def test_sync_generator_is_streamed(sync: Replica) -> None:
    assert sync.call("/stream").text == "0;1;2;"


def test_sync_handler_may_return_an_awaitable(sync: Replica) -> None:
    assert sync.call("/later").text == "awaited"


def test_sync_handler_that_raises_is_a_500(sync: Replica) -> None:
    assert sync.call("/raises").status == 500
    sync.wait_for_log("ValueError: on a thread")


def test_text_handler_gets_text_and_says_when_it_is_none(tmp_path: Path) -> None:
    handler = "def handle(req):\n    return type(req).__name__ + ' ' + req"
    with Replica(tmp_path, handler, {}) as replica:
        replica.ready()
        assert replica.call("/", "grüezi".encode()).text == "str grüezi"
        response = replica.call("/", b"ab\xff")
    assert response.status == 400
    assert "not UTF-8 at byte 2" in response.text


def test_raw_body_gives_a_text_handler_bytes(tmp_path: Path) -> None:
    handler = "async def handle(req):\n    return req[::-1]"
    with Replica(tmp_path, handler, {"RAW_BODY": "true"}) as replica:
        assert replica.ready().call("/", b"\xff\x00").body == b"\x00\xff"
