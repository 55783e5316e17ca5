"""Real load on a real platform while counts change, by hand and by load: no call is lost."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import ECHO, Stage
from tests.torture.loads import load

pytestmark = [pytest.mark.torture, pytest.mark.network, pytest.mark.timeout(600)]

LOAD_SECONDS = 60.0
# A minute for what the issue gives a minute.
PATIENCE = 60.0
MOST = 4
BY_HAND = {"com.openfaas.scale.min": str(MOST), "com.openfaas.scale.max": str(MOST)}
BY_LOAD = {
    "com.openfaas.scale.type": "capacity",
    "com.openfaas.scale.target": "2",
    "com.openfaas.scale.max": str(MOST),
}
SLOW = """import asyncio

async def handle(event, context):
    await asyncio.sleep(0.05)
    return event.body
"""


def eventually(condition: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    """Returns once it is so; `meanwhile` is done between two looks."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        meanwhile()


def pause() -> None:
    """Leave the processor to what is waited for."""
    time.sleep(0.1)


def test_minute_of_load_through_changes_of_the_count_fails_no_call(
    stage: Stage, tmp_path: Path
) -> None:
    limit = {"com.sluice.concurrency": "2", "com.sluice.scale.window": "6s"}
    stage.deploy(tmp_path, "echo", ECHO, labels=BY_HAND)
    stage.until("echo", availableReplicas=MOST)
    stage.serve(tmp_path, "slow", SLOW, labels=BY_LOAD, annotations=limit)

    def change_by_hand() -> None:
        for replicas in (3, 1, MOST, 2, 0):
            stage.api.scale("echo", replicas)
            # From zero its callers wake it to its minimum.
            stage.until("echo", availableReplicas=replicas or MOST)

    def has(replicas: int) -> Callable[[], bool]:
        return lambda: int(stage.api.function("slow")["replicas"]) == replicas

    calls, ends, rounds = stage.platform.url + "/function", time.monotonic() + LOAD_SECONDS, 0
    failures: list[str] = []
    with load(f"{calls}/echo", 2) as callers, load(f"{calls}/slow", 1) as lone:
        while time.monotonic() < ends or rounds < 2:
            with load(f"{calls}/slow", 4 * MOST) as crowd:
                eventually(has(MOST), change_by_hand)
            failures += [failure for each in crowd for failure in each.failures]
            eventually(has(1), change_by_hand)
            rounds += 1
    failures += [failure for each in callers + lone for failure in each.failures]
    assert failures == []
    assert all(each.answered for each in callers + lone)


def test_ten_calls_a_second_bring_a_second_replica_and_it_goes_when_they_end(
    stage: Stage, tmp_path: Path
) -> None:
    """What OpenFaaS's standard alert rule does to a function without labels, each in a minute."""
    stage.serve(tmp_path, "slow", SLOW.replace("0.05", "0.18"))
    with load(f"{stage.platform.url}/function/slow", 2) as callers:
        eventually(lambda: int(stage.api.function("slow")["replicas"]) > 1, pause)
    eventually(lambda: stage.api.function("slow")["replicas"] == 1, pause)
    assert [each.failures for each in callers] == [[], []]
