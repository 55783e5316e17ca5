"""The call path: predict behind the gateway against FastAPI with the same model, and against nginx
in front of the same replica; what headers, bodies and streams cost.
"""

import csv
import json
import random
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from bench.peers import fastapi, nginx
from bench.rows import Row, medians, ratio_at_least, ratio_at_most, ratio_observed
from bench.slices import LoadTarget, Slices, interleave
from bench.stage import Stage
from bench.wrk import DEFAULT_HEADERS, WrkRequest
from testbed.platform import ROOT

SESSIONS: Final = 3
ROUNDS: Final = 4
CONNECTIONS: Final = (1, 16, 64)
LEAST_OF_NGINX: Final = {1: 0.7, 16: 0.7, 64: 0.65}
SEED: Final = 20261122
MORE_HEADERS: Final = {
    "authorization": "Bearer " + "a" * 64,
    "accept-encoding": "gzip, deflate, br",
    "accept-language": "en-GB,en;q=0.9",
    "cache-control": "no-cache",
    "origin": "https://app.example.org",
    "referer": "https://app.example.org/patients",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    "x-request-id": "f058ebd6-02f7-4d3f-942e-904344e8cde5",
}
STREAM: Final = """
async def handle(event, context):
    async def items():
        for number in range(16):
            yield b"%064d" % number
    return items()
"""
Pairs = list[tuple[float, float]]


def run(stage: Stage) -> list[Row]:
    """Rows of throughput, latency and processor time."""
    stage.deploy_predict("predict-one")
    stage.deploy("stream-one", stage.build("stream-one", STREAM, lang="python3-asgi"))
    stage.deploy("echo-one", "sluice/echo:latest")
    requests = write_requests(stage.folder)
    seen: dict[int, dict[str, Slices]] = {count: {} for count in CONNECTIONS}
    for session in range(SESSIONS):
        stage.log(f"call path, session {session + 1} of {SESSIONS}")
        _session(stage, requests["predict"], seen)
    stage.log("call path, other requests")
    return _fastapi_rows(seen) + _nginx_rows(seen) + _variants(stage, requests)


def body_of_row() -> str:
    """The body of a call that asks for one prediction: the first row of the quickstart's data."""
    with (ROOT / "examples" / "data" / "breast-cancer.csv").open() as file:
        first = next(csv.DictReader(file))
    row = [float(value) for name, value in first.items() if name != "diagnosis"]
    return json.dumps({"instances": [row]})


def model_file(stage: Stage) -> Path:
    """The forest's ONNX file in the registry's store."""
    with stage.platform.client() as http:
        alias = http.get("/registry/models/breast-cancer/aliases/forest").json()
    name = alias["artifact"]
    return next(path for path in (stage.platform.data_dir / "registry").rglob(name))


def write_requests(folder: Path) -> dict[str, WrkRequest]:
    """The requests of this suite by name."""
    shuffled = random.Random(SEED)  # noqa: S311 - data, not keys
    varied = [
        json.dumps({"instances": [[shuffled.uniform(0, 50) for _ in range(30)]]}) for _ in range(64)
    ]
    row = body_of_row()
    bodies = {
        "predict": [row],
        "varied": varied,
        "kilobyte": ["k" * 1024],
        "megabyte": ["m" * 1024 * 1024],
    }
    requests = {
        name: WrkRequest.write(folder / f"{name}.lua", each) for name, each in bodies.items()
    }
    headers = {**DEFAULT_HEADERS, **MORE_HEADERS}
    requests["headers"] = WrkRequest.write(folder / "headers.lua", [row], headers)
    return requests


def _session(stage: Stage, request: WrkRequest, seen: dict[int, dict[str, Slices]]) -> None:
    """One session: a new replica, nginx and FastAPI, all connection counts."""
    socket = stage.socket_of("predict-one")
    with ExitStack() as peers:
        proxy, worker = peers.enter_context(nginx(stage.folder / "nginx", {"predict-one": socket}))
        control, _ = peers.enter_context(fastapi(model_file(stage)))
        targets = {
            "gateway": LoadTarget(stage.calls("predict-one"), request, stage.gateway),
            "nginx": LoadTarget(f"{proxy}/function/predict-one", request, worker),
            "fastapi": LoadTarget(f"{control}/predict", request),
            "lean": LoadTarget(f"{control}/lean", request),
        }
        for count in CONNECTIONS:
            seen[count] = interleave(targets, count, ROUNDS, into=seen[count])


def _fastapi_rows(seen: Mapping[int, Mapping[str, Slices]]) -> list[Row]:
    rows = [
        ratio_at_least(
            f"predict, {_connections(count)}, against FastAPI",
            _pairs(seen[count], "rates", "fastapi"),
            "calls/s",
            8,
        )
        for count in (16, 64)
    ]
    rows.append(
        ratio_at_most(
            "predict p50, 1 connection, against FastAPI",
            _pairs(seen[1], "p50", "fastapi"),
            "ms",
            0.5,
        )
    )
    rows.append(
        ratio_at_most(
            "predict p99, 64 connections, against FastAPI",
            _pairs(seen[64], "p99", "fastapi"),
            "ms",
            0.25,
        )
    )
    rows += [
        ratio_observed(
            f"predict, {_connections(count)}, against FastAPI stripped bare",
            _pairs(seen[count], "rates", "lean"),
            "calls/s",
            note="async def on raw bytes, no validation of the rows",
        )
        for count in CONNECTIONS
    ]
    return rows


def _nginx_rows(seen: Mapping[int, Mapping[str, Slices]]) -> list[Row]:
    rows = [
        ratio_at_least(
            f"predict, {_connections(count)}, against nginx before the same replica",
            _pairs(seen[count], "rates", "nginx"),
            "calls/s",
            least,
        )
        for count, least in LEAST_OF_NGINX.items()
    ]
    rows.append(
        ratio_at_most(
            "gateway CPU a call, 64 connections, against nginx",
            _pairs(seen[64], "cpu", "nginx"),
            "us",
            1.9,
        )
    )
    rows.append(
        ratio_observed(
            "gateway CPU a call, 16 connections, against nginx",
            _pairs(seen[16], "cpu", "nginx"),
            "us",
        )
    )
    return rows


def _variants(stage: Stage, requests: Mapping[str, WrkRequest]) -> list[Row]:
    """What is sent and answered, varied; each against nginx before the same replica."""
    names = ("predict-one", "echo-one", "stream-one")
    sockets = {name: stage.socket_of(name) for name in names}
    cases = (
        ("predict with 12 request headers", "predict-one", "headers", 64),
        ("predict with varied bodies", "predict-one", "varied", 64),
        ("echo of a row", "echo-one", "predict", 64),
        ("echo of 1 kB", "echo-one", "kilobyte", 64),
        ("echo of 1 MB", "echo-one", "megabyte", 8),
        ("stream of 16 chunks", "stream-one", "kilobyte", 16),
    )
    rows: list[Row] = []
    with nginx(stage.folder / "nginx", sockets) as (proxy, worker):
        for title, function, request, connections in cases:
            targets = {
                "gateway": LoadTarget(stage.calls(function), requests[request], stage.gateway),
                "nginx": LoadTarget(f"{proxy}/function/{function}", requests[request], worker),
            }
            seen = interleave(targets, connections, ROUNDS)
            cpu = medians(_pairs(seen, "cpu", "nginx"))
            note = f"CPU a call {cpu[0]:.0f} us, nginx {cpu[1]:.0f} us"
            name = f"{title}, {_connections(connections)}, against nginx"
            rows.append(ratio_observed(name, _pairs(seen, "rates", "nginx"), "calls/s", note))
    return rows


def _connections(count: int) -> str:
    return f"{count} connection{'s' if count > 1 else ''}"


def _pairs(seen: Mapping[str, Slices], measure: str, peer: str) -> Pairs:
    """(ours, theirs) slice by slice."""
    ours, theirs = getattr(seen["gateway"], measure), getattr(seen[peer], measure)
    return list(zip(ours, theirs, strict=True))
