"""Many functions and unequal neighbours: what 2,000 deployed functions cost those that are called,
and what a saturated function costs another.
"""

import asyncio
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any, Final

from bench.processes import rss_mib
from bench.rows import Row, at_most, observed, ratio_at_least, ratio_at_most, ratio_observed
from bench.slices import LoadTarget, interleave
from bench.stage import FIXED, Stage, StageError, client, platform_on
from bench.wrk import WrkRequest, load
from gateway.autoscaling.autoscaler import Autoscaler
from gateway.autoscaling.signals import Signals
from gateway.metrics import Metrics
from gateway.proxy.activator import Activator, Listeners
from gateway.types.function import (
    FunctionDeployment,
    FunctionStatus,
    Replica,
    ReplicaState,
    UnixAddress,
)
from gateway.types.ids import FunctionId
from testbed.platform import ROOT, LivePlatform, start

FUNCTIONS: Final = 2000
LISTS: Final = 9
ROUNDS: Final = 8
TICKS: Final = 5
FEW: Final = 4
MANY: Final = 64
SECONDS: Final = 1
AT_ZERO: Final = {"com.openfaas.scale.min": "0"}
WAITING: Final = """
import asyncio

async def handle(event, context):
    await asyncio.sleep(0.02)
    return b"late"
"""
BURNING: Final = """
import time

def handle(event, context):
    end = time.perf_counter() + 0.02
    while time.perf_counter() < end:
        pass
    return b"done"
"""


def run(stage: Stage) -> list[Row]:
    """Rows of a crowded control plane and of fairness."""
    stage.deploy("echo-one", "sluice/echo:latest")
    return _crowded(stage) + asyncio.run(_ticks()) + _fairness(stage)


def _crowded(stage: Stage) -> list[Row]:
    """A second platform with many functions at zero, beside the stage's own with a few."""
    with ExitStack() as opened:
        begun = time.perf_counter()
        platform = opened.enter_context(platform_on(stage.folder / "crowd"))
        empty = time.perf_counter() - begun
        with client(platform) as api:
            each = _fill(Stage(platform, api, stage.folder, stage.log))
        full = _restart(platform)
        crowd = Stage(platform, opened.enter_context(client(platform)), stage.folder, stage.log)
        crowd.until("echo-one", availableReplicas=1)
        return [
            _list(crowd),
            observed("deploy of one function, beside up to 2,000", each, "ms"),
            observed("start to ready with 2,000 functions, against none", full, "s", empty),
            *_beside_many(crowd, stage),
            at_most("gateway with 2,000 functions", rss_mib(crowd.gateway), "MiB RSS", 250),
        ]


def _fill(crowd: Stage) -> float:
    """Deploy an echo that is awake and many at zero, a few at a time; milliseconds for each."""
    crowd.log(f"deploying {FUNCTIONS} functions")
    image = crowd.build("echo", (ROOT / "functions" / "echo" / "handler.py").read_text())
    crowd.deploy("echo-one", image)
    begun = time.perf_counter()
    with crowd.platform.client() as http, ThreadPoolExecutor(FEW) as callers:

        def deploy(number: int) -> None:
            body = {"service": f"idle-{number}", "image": image, "labels": AT_ZERO}
            http.post("/system/functions", json=body).raise_for_status()

        list(callers.map(deploy, range(FUNCTIONS)))
    return (time.perf_counter() - begun) / FUNCTIONS * 1000


def _restart(platform: LivePlatform) -> float:
    """Seconds that a start takes with what is deployed."""
    platform.sluice("down")
    begun = time.perf_counter()
    start(platform)
    return time.perf_counter() - begun


def _list(crowd: Stage) -> Row:
    taken: list[float] = []
    listed: list[dict[str, Any]] = []
    for _ in range(LISTS):
        begun = time.perf_counter()
        listed = crowd.api.functions()
        taken.append((time.perf_counter() - begun) * 1000)
    awake = sum(int(one.get("replicas", 0)) for one in listed)
    if (len(listed), awake) != (FUNCTIONS + 1, 1):
        raise StageError(f"{len(listed)} functions with {awake} replicas, expected one awake")
    note = f"{len(listed)} functions listed"
    return at_most("list of 2,000 functions", statistics.median(taken), "ms", 300, note=note)


def _beside_many(crowd: Stage, stage: Stage) -> list[Row]:
    """What a call costs where there are many functions against where there are a few."""
    crowd.log("calls beside many functions")
    request = WrkRequest.write(crowd.folder / "crowd.lua", ["row"])
    targets = {
        name: LoadTarget(each.calls("echo-one"), request, each.gateway)
        for name, each in (("crowd", crowd), ("few", stage))
    }
    seen = interleave(targets, 16, ROUNDS)
    many, few = seen["crowd"], seen["few"]
    title = "beside 2,000 functions against beside a few, 16 connections"
    return [
        ratio_at_least(
            f"echo {title}", list(zip(many.rates, few.rates, strict=True)), "calls/s", 0.95
        ),
        ratio_observed(f"p99 of echo {title}", list(zip(many.p99, few.p99, strict=True)), "ms"),
        ratio_observed(
            f"gateway CPU {title}", list(zip(many.cpu, few.cpu, strict=True)), "us/call"
        ),
    ]


async def _ticks() -> list[Row]:
    """One sample and tick of the autoscaler, in this process: all at zero, and all awake."""
    rows = []
    for awake, title in ((0, "all at zero"), (FUNCTIONS, "all awake")):
        scaler = _autoscaler(awake)
        taken = []
        for _ in range(TICKS):
            begun = time.perf_counter()
            await scaler.sample()
            await scaler.tick()
            taken.append((time.perf_counter() - begun) * 1000)
        name = f"autoscaler tick, 2,000 functions {title}"
        median = statistics.median(taken)
        rows.append(observed(name, median, "ms") if awake else at_most(name, median, "ms", 50))
    return rows


class _Unasked:
    """A provider that is told nothing: load asks for the count there is."""

    async def scale(self, function: FunctionId, replicas: int) -> None:
        raise AssertionError(f"{function} was scaled to {replicas}")


def _autoscaler(awake: int) -> Autoscaler:
    listeners = Listeners(lambda _function: None, lambda _function: None, lambda _replica: None)
    activator = Activator(listeners, Metrics(), 30.0, 1000)
    provider: Any = _Unasked()
    scaler = Autoscaler(provider, activator.load, Signals(time.monotonic, lambda _function: 0))
    for number in range(FUNCTIONS):
        count = int(number < awake)
        deployment = FunctionDeployment(FunctionId(f"idle-{number}"), "image")
        replica = Replica(f"r-{number}", UnixAddress("nowhere"), ReplicaState.READY)
        status = FunctionStatus(deployment, count, (replica,) * count, datetime.now(UTC))
        activator.apply(status)
        scaler.apply(status)
    return scaler


def _fairness(stage: Stage) -> list[Row]:
    """p99 of one function while another is saturated at its only replica."""
    rows = []
    request = WrkRequest.write(stage.folder / "fair.lua", ["row"])
    cases = (("waiting", WAITING, "waits"), ("burning", BURNING, "computes"))
    for name, source, verb in cases:
        stage.log(f"fairness beside a function that {verb}")
        image = stage.build(name, source, lang="python3-asgi")
        stage.deploy(name, image, annotations={"com.sluice.concurrency": "4"}, labels=FIXED)
        pairs = _beside(stage, name, request)
        stage.api.remove(name)
        title = f"p99 of echo beside a saturated function that {verb}"
        note = f"{FEW} callers beside {MANY} of the other, which has one replica"
        rows.append(ratio_at_most(title, pairs, "ms", 2, note=note))
    return rows


def _beside(stage: Stage, neighbour: str, request: WrkRequest) -> list[tuple[float, float]]:
    """p99 in ms of echo with the neighbour saturated and without, slice by slice."""
    pairs = []
    url = stage.calls("echo-one")
    with ThreadPoolExecutor(1) as background:
        for turn in range(ROUNDS + 1):
            alone = load(url, request, FEW, SECONDS).p99 * 1000
            saturating = background.submit(
                load, stage.calls(neighbour), request, MANY, SECONDS + 1, failures=True
            )
            time.sleep(0.5)  # the load has no event that says it has begun
            beside = load(url, request, FEW, SECONDS).p99 * 1000
            saturating.result()
            if turn:
                pairs.append((beside, alone))
    return pairs
