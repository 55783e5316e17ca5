"""A replica as a process: what callers see of each form of handler, and how it starts and ends."""

import json
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica

GALLERY = """
import asyncio, json, logging, os, subprocess, sys

async def init():
    await asyncio.sleep(0)
    globals()["STARTED"] = "by init"

async def handle(event, context):
    return await globals()[event.path.strip("/")](event, context)

async def echo(event, context):
    return event.body

async def predict(event, context):
    rows = json.loads(event.body)["instances"]
    return {"predictions": [sum(row) for row in rows], "model": event.query.get("model")}

async def about(event, context):
    return {
        "method": event.method, "header": event.headers["X-Mine"], "call": context.call_id,
        "name": context.name, "namespace": context.namespace, "host": context.hostname,
        "secret": context.secret("token"), "remaining": context.remaining(), "init": STARTED,
    }

async def rows_of(event, context):
    return event.json()["rows"]

async def child(event, context):
    return subprocess.run([sys.executable, "-c", "raise SystemExit(3)"]).returncode

async def environment(event, context):
    return dict(os.environ)

async def raises(event, context):
    raise KeyError("secret-7")

async def exits(event, context):
    sys.exit(3)

async def wrong(event, context):
    return {1, 2}

async def status(event, context):
    return {"statusCode": 418, "body": "teapot", "headers": {"x-tea": "green"}}

async def timed(event, context):
    async with asyncio.timeout(5):
        await asyncio.sleep(0.01)
    return "in time"

async def prints(event, context):
    print("printed", event.body.decode())
    logging.getLogger("mine").info("logged", extra={"rows": 3})

async def stream(event, context):
    async def items():
        for number in range(3):
            yield f"{number},"
            await asyncio.sleep(0)
    return items()

async def rows(event, context):
    async def items():
        for number in range(3):
            yield {"row": number}
    return {"statusCode": 201, "body": items()}

async def early(event, context):
    async def items():
        raise ValueError("before the first item")
        yield
    return items()

async def broken(event, context):
    async def items():
        yield "begun"
        raise ValueError("in the middle")
    return items()

async def nothing(event, context):
    async def items():
        return
        yield
    return items()
"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("gallery")
    (folder / "secrets").mkdir()
    (folder / "secrets" / "token").write_text("s3cret")
    environ = {"SLUICE_REPLICA": "r-1", "SLUICE_BODY_LIMIT": "1Mi", "MINE": "1", "HOSTNAME": "h"}
    with Replica(folder, GALLERY, environ) as replica:
        yield replica.ready()


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
    told = json.loads(response.body)
    assert 0 < told.pop("remaining") <= 30
    assert told == {
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


def test_bad_x_timeout_is_named(gallery: Replica) -> None:
    response = gallery.call("/echo", headers={"x-timeout": "soon"})
    assert response.status == 400
    assert response.text.startswith("X-Timeout: 'soon': expected a duration")


def test_health_ready_and_metrics_are_the_runtimes(gallery: Replica) -> None:
    health = gallery.call("/_/health", method="GET")
    assert (health.status, health.text) == (200, "OK")
    ready = gallery.call("/_/ready", method="GET")
    assert (ready.status, ready.body) == (200, b"")
    assert gallery.call("/_/health", method="POST").status == 405
    gallery.call("/status", method="PATCH")
    page = gallery.call("/_/metrics", method="GET")
    assert page.headers["content-type"].startswith("text/plain; version=0.0.4")
    assert 'http_requests_total{code="418",method="patch"} 1.0' in page.text
    assert 'http_request_duration_seconds_bucket{code="418",le="+Inf",method="patch"} 1.0' in (
        page.text
    )
    assert "http_requests_in_flight 0.0" in page.text
    assert "sluice_runtime_start_seconds " in page.text
    assert "process_resident_memory_bytes " in page.text


def test_unknown_methods_share_a_label(gallery: Replica) -> None:
    gallery.call("/echo", method="PURGE")
    assert 'method="other"' in gallery.call("/_/metrics", method="GET").text


# Sync handlers.

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


# Limits and timeouts.


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


def test_long_sync_handlers_do_not_keep_health_waiting(tmp_path: Path) -> None:
    enough = tmp_path / "enough"
    handler = (
        "import os\ndef handle(event, context):\n    print('busy')\n"
        f"    while not os.path.exists({str(enough)!r}):\n        pass\n"
    )
    with Replica(tmp_path, handler, {}) as replica, ThreadPoolExecutor(1) as callers:
        call = callers.submit(replica.ready().call)
        replica.wait_for_log("busy")
        assert replica.call("/_/health", method="GET").status == 200
        assert not call.done()
        enough.touch()
        assert call.result().status == 200


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


# Start and end.


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


def test_sigterm_answers_what_was_begun_and_exits_0(tmp_path: Path) -> None:
    handler = (
        "import time\ndef handle(event, context):\n    print('begun')\n    time.sleep(0.5)\n"
        "    return 'finished'\n"
    )
    with Replica(tmp_path, handler, {}) as replica, ThreadPoolExecutor(1) as callers:
        call = callers.submit(replica.ready().call)
        replica.wait_for_log("begun")
        replica.terminate()
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


def test_failed_start_does_not_wait_for_a_thread_of_the_handler(tmp_path: Path) -> None:
    handler = "import threading\nthreading.Thread(target=threading.Event().wait).start()\n1 / 0\n"
    with Replica(tmp_path, handler, {}) as replica:
        assert replica.event()["event"] == "failed"
        assert replica.exit_code() == 1


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


def read_to_end(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or cuts."""
    received = b""
    try:
        while data := connection.recv(65536):
            received += data
    except ConnectionResetError:
        pass
    return received


def test_head_at_the_gateways_limits_is_taken_with_what_the_gateway_adds(tmp_path: Path) -> None:
    """100 fields of 64 KiB pass the gateway, which adds call id, forwarding and start time."""
    fields = {f"x-{number}": "v" * 640 for number in range(106)}
    handler = "async def handle(event, context):\n    return len(event.headers)"
    with Replica(tmp_path, handler, {}) as replica:
        response = replica.ready().call("/", headers=fields)
        assert response.status == 200
        assert int(response.body) >= 106
