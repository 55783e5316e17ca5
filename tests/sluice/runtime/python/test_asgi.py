"""ASGI apps: frameworks too, streamed bodies, lifespan, timeouts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sluice.runtime.replica import Replica

APP = """
import asyncio, contextlib, resource
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse

@contextlib.asynccontextmanager
async def lifespan(app):
    print("started")
    yield {"model": "iris"}
    print("stopped")

app = FastAPI(lifespan=lifespan)

@app.get("/model")
async def model(request: Request):
    return {"model": request.state.model, "id": request.headers.get("x-call-id")}

@app.post("/count")
async def count(request: Request):
    size, most = 0, 0
    async for piece in request.stream():
        size += len(piece)
        most = max(most, len(piece))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"size": size, "most": most, "peak_kib": peak}

@app.get("/stream")
async def stream():
    async def items():
        for number in range(3):
            yield f"{number},"
    return StreamingResponse(items())

@app.get("/raises")
async def raises():
    raise KeyError("secret-7")

@app.get("/slow")
async def slow():
    await asyncio.Event().wait()
"""


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Replica]:
    folder = tmp_path_factory.mktemp("asgi")
    with Replica(folder, APP, {"exec_timeout": "60s", "SLUICE_BODY_LIMIT": "1Mi"}) as replica:
        yield replica.ready()


def test_app_answers_with_the_state_of_its_lifespan(app: Replica) -> None:
    response = app.call("/model", method="GET", headers={"x-call-id": "c-9"})
    assert response.text == '{"model":"iris","id":"c-9"}'
    assert float(response.headers["x-duration-seconds"]) > 0
    assert response.headers["x-call-id"] is None
    assert len(app.call("/model", method="GET").headers["x-call-id"]) == 36


def test_body_streams_through_without_being_held(app: Replica) -> None:
    piece = bytes(1 << 20)
    before = app.call("/count", b"").text
    response = app.call("/count", (piece for _ in range(120)))
    counts = dict(part.split(":") for part in response.text.strip("{}").split(","))
    assert int(counts['"size"']) == 120 << 20
    idle = int(before.rpartition(":")[2].rstrip("}"))
    assert int(counts['"peak_kib"']) - idle < 30_000


def test_streaming_answer_is_chunked(app: Replica) -> None:
    response = app.call("/stream", method="GET")
    assert (response.headers["transfer-encoding"], response.text) == ("chunked", "0,1,2,")


def test_app_that_raises_tells_no_more_than_a_500(app: Replica) -> None:
    response = app.call("/raises", method="GET", headers={"x-call-id": "c-10"})
    assert response.status == 500
    assert "secret-7" not in response.text
    log = app.wait_for_log("KeyError: 'secret-7'")
    assert "call_id=c-10" in log


def test_call_over_its_timeout_is_504_and_the_app_stays(app: Replica) -> None:
    response = app.call("/slow", method="GET", headers={"x-timeout": "200ms"})
    assert (response.status, response.body) == (504, b"")
    assert response.headers["x-openfaas-internal"] == "of-watchdog"
    assert app.call("/model", method="GET").status == 200


def test_websocket_is_refused_and_holds_no_slot(app: Replica) -> None:
    with app.connect() as connection:
        connection.sendall(
            b"GET /model HTTP/1.1\r\nhost: f\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
        )
        assert connection.recv(65536).startswith(b"HTTP/1.1 501 ")
    app.wait_for_metrics(
        'http_requests_total{code="501",method="get"} 1.0', "http_requests_in_flight 0.0"
    )


def test_client_that_leaves_frees_its_slot(tmp_path: Path) -> None:
    source = (
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http':\n        raise RuntimeError('no lifespan')\n"
        "    print('begun')\n"
        "    while (await receive())['type'] != 'http.disconnect':\n        pass\n"
        "    print('noticed')\n"
    )
    with Replica(tmp_path, source, {}) as replica:
        with replica.ready().connect() as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nhost: f\r\n\r\n")
            replica.wait_for_log("begun")
        replica.wait_for_log("noticed")
        replica.wait_for_metrics(
            'http_requests_total{code="499",method="get"} 1.0', "http_requests_in_flight 0.0"
        )


def test_failed_start_up_is_a_failed_function(tmp_path: Path) -> None:
    source = (
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no model'})\n"
    )
    with Replica(tmp_path, source, {}) as replica:
        event = replica.event()
        assert event["event"] == "failed"
        assert "the app's start-up failed: no model" in event["reason"]
        assert replica.exit_code() == 1


def test_drain_runs_the_apps_shutdown(tmp_path: Path) -> None:
    with Replica(tmp_path, APP, {}) as replica:
        replica.ready().terminate()
        assert replica.exit_code() == 0
        assert "started\n" in replica.log
        assert "stopped\n" in replica.log


def test_app_that_ignores_its_cancellation_is_answered_504_and_replaced(tmp_path: Path) -> None:
    source = (
        "import asyncio\nasync def app(scope, receive, send):\n"
        "    while scope['type'] == 'http':\n"
        "        try:\n            await asyncio.Event().wait()\n"
        "        except asyncio.CancelledError:\n            print('ignored')\n"
    )
    with Replica(tmp_path, source, {"exec_timeout": "200ms"}) as replica:
        assert replica.ready().call("/", method="GET").status == 504
        event = replica.event()
        assert event["event"] == "replace"
        assert event["reason"].startswith("exec_timeout of 0.2 s passed, and the app does not end")
        assert replica.exit_code() == 0
