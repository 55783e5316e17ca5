"""Scaling by the calls that wait, on the platform itself."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.e2e.conftest import Stage

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

CALLS = 6
# Answers once as many calls run as came: each on a replica of its own, that takes only one.
MEETING = f"""import asyncio, os, pathlib

async def handle(event, context):
    folder = pathlib.Path(os.environ["SLUICE_CACHE_DIR"])
    (folder / event.body.decode()).touch()
    while len(list(folder.glob("call-*"))) < {CALLS}:
        await asyncio.sleep(0.01)
    return event.body
"""


def test_burst_at_zero_brings_a_replica_for_each_call_and_no_more(
    stage: Stage, tmp_path: Path
) -> None:
    """Its rate alone asks for one replica, with which no call would ever be answered."""
    stage.deploy(
        tmp_path,
        "meeting",
        MEETING,
        labels={"com.openfaas.scale.min": "0", "com.openfaas.scale.target": "1000"},
        annotations={"com.sluice.concurrency": "1"},
    )
    bodies = [f"call-{number}" for number in range(CALLS)]
    with ThreadPoolExecutor(CALLS) as callers:
        answers = list(
            callers.map(lambda body: stage.http.post("/function/meeting", content=body), bodies)
        )
    assert [(each.status_code, each.text) for each in answers] == [(200, body) for body in bodies]
    assert stage.until("meeting", availableReplicas=CALLS)["replicas"] == CALLS
