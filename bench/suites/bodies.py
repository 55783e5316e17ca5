"""Uploads that stream, and latency at a rate that does not wait for answers."""

import json
import subprocess
import sys
import time
from typing import Any, Final

from bench.openloop import Generator, Offered
from bench.peers import nginx
from bench.processes import rss_mib
from bench.rows import Row, at_least, at_most, observed, quantile
from bench.stage import Stage
from bench.suites.calls import body_of_row
from bench.wrk import WrkRequest, load
from testbed.platform import ROOT

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
    body = body_of_row()
    request = WrkRequest.write(stage.folder / "open.lua", [body])
    url = stage.calls("predict-one")
    generator = Generator(stage.folder)
    ours: list[Offered] = []
    theirs: list[Offered] = []
    with nginx(stage.folder / "nginx", {"predict-one": stage.socket_of("predict-one")}) as (
        peer,
        _,
    ):
        for _ in range(OPEN_ROUNDS):
            rate = load(url, request, CONNECTIONS, 1).rate / 2
            offer = (body.encode(), rate, OPEN_SECONDS, CONNECTIONS)
            ours.append(generator.offer(url, *offer))
            theirs.append(generator.offer(f"{peer}/function/predict-one", *offer))
    seen, control = _median_round(ours), _median_round(theirs)
    most = "open loop p99 at half the highest rate, against its p50"
    through = "open loop p99 through nginx at the same rate, against its p50"
    return [
        at_most(most, _ms(seen, 0.99), "ms", 10, _ms(seen, 0.5), _summary(seen)),
        observed(through, _ms(control, 0.99), "ms", _ms(control, 0.5), _summary(control)),
    ]


def _ms(seen: Offered, share: float) -> float:
    """The latency that `share` of the calls did not exceed, in milliseconds."""
    return quantile(seen.latencies, share) * 1000


def _median_round(rounds: list[Offered]) -> Offered:
    """The round with the median of p99 / p50."""
    return sorted(rounds, key=lambda seen: _ms(seen, 0.99) / _ms(seen, 0.5))[len(rounds) // 2]


def _summary(seen: Offered) -> str:
    late = quantile(seen.lateness, 0.99) * 1000
    return (
        f"{len(seen.latencies) / OPEN_SECONDS:.0f} calls/s, the median of {OPEN_ROUNDS} rounds; "
        f"the generator itself sent late, p99 {late:.2f} ms"
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
        time.sleep(SAMPLE_SECONDS)  # memory is sampled
    response = json.loads(uploading.communicate()[0])
    total = UPLOADS * UPLOAD_BYTES / 1e6 / response["seconds"]
    return [
        at_most(f"gateway growth, {UPLOADS} uploads of 100 MB at once", peak - before, "MiB", 30),
        at_least("uploads answered with their length", response["right"], "uploads", UPLOADS),
        observed("uploads through gateway and function", total, "MB/s"),
    ]


def _child(module: str, *words: str) -> dict[str, Any]:
    """The JSON object that a module of this package prints, run in a process of its own."""
    command = [sys.executable, "-m", module, *words]
    done = subprocess.run(  # noqa: S603 - this package
        command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found
