"""What a caller of a batching handler is answered when its batch cannot serve it."""

from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.sluice.runtime.replica import Replica

HANDLER = """
import asyncio
import threading
import time
from sluice.runtime.python.batching import batch

OPEN, HELD = threading.Event(), threading.Event()

@batch(max_rows=1, max_queue_rows=1)
def slow(rows):
    if rows == ["hold"]:
        HELD.set()
        OPEN.wait(20)
    return [] if rows == ["lost"] else rows

async def handle(event, context):
    row = event.path.strip("/")
    if row == "open":
        OPEN.set()
        return "opened"
    if row == "held":
        return str(await asyncio.to_thread(HELD.wait, 20))
    if row == "late":
        return await slow([row], deadline=time.monotonic() - 1)
    return (await slow([row]))[0]
"""


def test_full_queue_expired_call_and_broken_function_are_answered_429_504_and_500(
    tmp_path: Path,
) -> None:
    with Replica(tmp_path, HANDLER, {}) as replica, ThreadPoolExecutor(3) as callers:
        replica.ready()
        assert replica.call("/late").status == 504
        lost = replica.call("/lost")
        assert (lost.status, "0 results for 1 rows" in lost.text) == (500, True)
        held = callers.submit(replica.call, "/hold")
        assert replica.call("/held").text == "True"
        pair = [callers.submit(replica.call, "/next") for _ in range(2)]
        refused = next(as_completed(pair)).result()
        assert (refused.status, "rows wait" in refused.text) == (429, True)
        assert replica.call("/open").status == 200
        assert held.result().text == "hold"
        assert sorted(call.result().status for call in pair) == [200, 429]
