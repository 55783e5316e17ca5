"""Uploads that stream, and latency at a rate that does not wait for answers."""

import json
import subprocess
import sys
import time
from typing import Any, Final

from bench.peers import nginx
from bench.processes import rss_mib
from bench.rows import Row, at_least, at_most, told
from bench.stage import Stage
from bench.suites.calls import body_of_row
from bench.wrk import Request, load
from tests.live import ROOT

UPLOADS: Final = 64
UPLOAD_BYTES: Final = 100 * 1000 * 1000
SAMPLE_SECONDS: Final = 0.1
OPEN_SECONDS: Final = 3
OPEN_ROUNDS: Final = 5
CONNECTIONS: Final = 64
# Reads the stream as it comes and keeps nothing of it.
COUNTING: Final = """
async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(size).encode()})
"""


def run(stage: Stage) -> list[Row]:
    """Rows of memory under uploads and of open-loop latency."""
    return _open_loop(stage) + _uploads(stage)


def _open_loop(stage: Stage) -> list[Row]:
    """Latency at half of what a closed loop reaches, from the intended moment of sending; and what
    nginx before the same replica makes of the same rate on the same busy processors.
    """
    stage.log("open loop")
    stage.deploy_predict("predict-one")
    body = stage.folder / "row.json"
    body.write_text(body_of_row())
    request = Request.write(stage.folder / "open.lua", [body.read_text()])
    url = stage.calls("predict-one")
    ours, theirs = [], []
    with nginx(stage.folder / "nginx", {"predict-one": stage.socket_of("predict-one")}) as (
        peer,
        _,
    ):
        for _ in range(OPEN_ROUNDS):
            rate = load(url, request, CONNECTIONS, 1).rate / 2
            words = (str(body), f"{rate:.0f}", str(OPEN_SECONDS), str(CONNECTIONS))
            ours.append(_child("bench.openloop", url, *words))
            theirs.append(_child("bench.openloop", f"{peer}/function/predict-one", *words))
    seen, control = _median_round(ours), _median_round(theirs)
    most = "open loop p99 at half the highest rate, against its p50"
    through = "open loop p99 through nginx at the same rate, against its p50"
    return [
        at_most(most, seen["p99"] * 1000, "ms", 10, seen["p50"] * 1000, _told_of(seen)),
        told(through, control["p99"] * 1000, "ms", control["p50"] * 1000, _told_of(control)),
    ]


def _median_round(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """The round with the median of p99 / p50."""
    return sorted(rounds, key=lambda found: found["p99"] / found["p50"])[len(rounds) // 2]


def _told_of(found: dict[str, Any]) -> str:
    return (
        f"{found['calls'] / OPEN_SECONDS:.0f} calls/s, the median of {OPEN_ROUNDS} rounds; "
        f"the generator itself sent late, p99 {found['late'] * 1000:.2f} ms"
    )


def _uploads(stage: Stage) -> list[Row]:
    """Growth of the gateway while many large bodies pass through it at once."""
    stage.log("uploads")
    image = stage.build("counting", COUNTING, lang="python3-asgi")
    environment = {"exec_timeout": "5m", "read_timeout": "5m", "write_timeout": "5m"}
    stage.deploy("counting", image, envVars={**environment, "SLUICE_BODY_LIMIT": "256Mi"})
    gateway = stage.gateway
    _child("bench.uploads", stage.calls("counting"), "4", "1000000")
    before = peak = rss_mib(gateway)
    words = (stage.calls("counting"), str(UPLOADS), str(UPLOAD_BYTES))
    command = [sys.executable, "-m", "bench.uploads", *words]
    uploading = subprocess.Popen(  # noqa: S603 - this package
        command, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    while uploading.poll() is None:
        peak = max(peak, rss_mib(gateway))
        time.sleep(SAMPLE_SECONDS)
    answer = json.loads(uploading.communicate()[0])
    total = UPLOADS * UPLOAD_BYTES / 1e6 / answer["seconds"]
    return [
        at_most(f"gateway growth, {UPLOADS} uploads of 100 MB at once", peak - before, "MiB", 30),
        at_least("uploads answered with their length", answer["right"], "uploads", UPLOADS),
        told("uploads through gateway and function", total, "MB/s"),
    ]


def _child(module: str, *words: str) -> dict[str, Any]:
    """The JSON object that a module of this package prints, run in a process of its own."""
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(  # noqa: S603 - this package
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
