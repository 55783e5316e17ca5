"""kill -9 of the gateway while asynchronous calls pour in: every 202 is run, none is forgotten.

The evidence is the gateway's own: a call is `succeeded` only once its answer is stored with it,
and the answer is checked against what was sent.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.platform import ROOT
from tests.e2e.conftest import Stage
from tests.torture.loads import PATIENCE, answering, running, until, wait_ended

pytestmark = [pytest.mark.torture, pytest.mark.network, pytest.mark.timeout(600)]

CALLERS = 8
ANNOTATIONS = {
    "com.openfaas.retry.min_wait": "50ms",
    "com.openfaas.retry.max_wait": "500ms",
    "com.sluice.async.concurrency": "32",
}
LARGE = b"x" * 100_000
# Echoes, but for the first attempt of one call, which lasts until its gateway is killed.
HANDLER = """
import asyncio

async def handle(event, context):
    if event.body == b"held" and "x-retry" not in event.headers:
        await asyncio.sleep(600)
    return event.body
"""


@dataclass(slots=True)
class Poster:
    """Posts calls until told to stop. accepted: id of each 202 -> the body that was sent."""

    url: str
    number: int
    accepted: dict[str, bytes] = field(default_factory=dict)
    others: set[int] = field(default_factory=set)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        with httpx.Client(timeout=10) as http:
            count = 0
            while not self.stop.is_set():
                count += 1
                body = f"{self.number}/{count}".encode()
                # Now and then one that goes through a file.
                self._post(http, body + LARGE if count % 50 == 0 else body)

    def _post(self, http: httpx.Client, body: bytes) -> None:
        try:
            response = http.post(self.url, content=body)
        except httpx.HTTPError:
            time.sleep(0.05)  # the gateway is away; nothing was accepted
            return
        if response.status_code == 202:
            self.accepted[response.headers["x-call-id"]] = body
        else:
            self.others.add(response.status_code)


@contextmanager
def posting(url: str) -> Iterator[list[Poster]]:
    posters = [Poster(url, number) for number in range(CALLERS)]
    with running(posters):
        yield posters


def listed(stage: Stage) -> dict[str, dict[str, Any]]:
    """Every call that the gateway knows, by id."""
    found: dict[str, dict[str, Any]] = {}
    after = ""
    while True:
        page = stage.api.calls({"limit": "1000", **({"after": after} if after else {})})
        if not page:
            return found
        found |= {call["id"]: call for call in page}
        after = page[-1]["id"]


def settled(stage: Stage) -> dict[str, dict[str, Any]]:
    """The calls once none waits or runs."""
    deadline = time.monotonic() + 300
    while stage.api.calls({"state": "queued"}) or stage.api.calls({"state": "running"}):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return listed(stage)


def kill(stage: Stage, pid: int, posters: list[Poster], count: int) -> None:
    """kill -9 once `count` more calls were accepted and one runs that cannot have ended."""
    wanted = accepted_by(posters) + count
    response = stage.http.post("/async-function/echo", content=b"held")
    held = response.headers["x-call-id"]
    posters[0].accepted[held] = b"held"
    until(lambda: stage.http.get(f"/system/calls/{held}").json()["state"] == "running")
    until(lambda: accepted_by(posters) >= wanted)
    os.kill(pid, signal.SIGKILL)
    assert wait_ended(pid, PATIENCE)


def accepted_by(posters: list[Poster]) -> int:
    return sum(len(each.accepted) for each in posters)


def check(stage: Stage, posters: list[Poster]) -> None:
    """Every call accepted was run, and answered with what was sent to it."""
    assert not {status for each in posters for status in each.others}
    accepted = {call: body for each in posters for call, body in each.accepted.items()}
    calls = settled(stage)
    lost = [call for call in accepted if call not in calls]
    assert lost == []
    ended = {calls[call]["state"] for call in accepted}
    assert ended == {"succeeded"}
    # Some were running when the gateway was killed, and were run again.
    assert max(call["attempts"] for call in calls.values()) > 1
    large = [call for call, body in accepted.items() if len(body) > len(LARGE)]
    for call in [*list(accepted)[:: max(1, len(accepted) // 200)], *large]:
        assert stage.api.call_result(call) == accepted[call]


def test_every_accepted_call_is_run_though_the_gateway_is_killed(
    stage: Stage, tmp_path: Path
) -> None:
    stage.serve(tmp_path, "echo", HANDLER, annotations=ANNOTATIONS)
    with posting(f"{stage.platform.url}/async-function/echo") as posters:
        for _ in range(3):
            kill(stage, stage.platform.program("gateway"), posters, 200)
            answering(stage, "echo")
    check(stage, posters)


def test_every_accepted_call_is_run_though_the_gateway_is_killed_20_times(
    stage: Stage, tmp_path: Path
) -> None:
    """The gateway is started by the test: the supervisor would wait longer each time."""
    stage.serve(tmp_path, "echo", HANDLER, annotations=ANNOTATIONS)
    stage.platform.sluice("down")
    gateway = start_gateway(stage, tmp_path)
    try:
        with posting(f"{stage.platform.url}/async-function/echo") as posters:
            for number in range(20):
                kill(stage, gateway.pid, posters, 20 + 20 * (number % 5))
                gateway.wait()
                gateway = start_gateway(stage, tmp_path)
        check(stage, posters)
    finally:
        gateway.terminate()
        gateway.wait(30)


def start_gateway(stage: Stage, folder: Path) -> subprocess.Popen[bytes]:
    """A gateway on the stage's data, answering."""
    with (folder / "gateway.log").open("ab") as log:
        gateway = subprocess.Popen(
            [sys.executable, "-m", "gateway"],
            env=dict(stage.platform.environ),
            cwd=ROOT,
            stdout=log,
            stderr=log,
        )
    answering(stage, "echo")
    return gateway
