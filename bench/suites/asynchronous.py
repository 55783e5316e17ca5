"""Durable asynchronous calls: accepted, executed, accepted behind a backlog.

wrk posts 601 bytes to /async-function/echo on 64 connections, and every 202 is on the disk; the
echo function is called meanwhile. Backlogs are inserted straight into the tables of a stopped
gateway, due at once: calls of echo, executed with nobody posting, and a million calls of a
function that takes a second each. Gateway, function, wrk and the disk are one machine's.
"""

import os
import sqlite3
import statistics
import time
from pathlib import Path
from typing import Any, Final

import httpx

from bench.rows import Row, at_least, at_most, observed
from bench.stage import Stage, client, platform_on
from bench.wrk import Load, WrkRequest, load
from gateway.queue.call import new_ids
from testbed.platform import start

CONNECTIONS: Final = 64
SECONDS: Final = 4
ROUNDS: Final = 3
EXECUTED: Final = 60_000
BACKLOG: Final = 1_000_000
BODY: Final = "x" * 601
ECHO: Final = "async def handle(event, context):\n    return event.body\n"
SLOW: Final = "import asyncio\n\n\nasync def handle(event, context):\n    await asyncio.sleep(1)\n"
CONCURRENCY: Final = {"com.sluice.async.concurrency": "64"}
PROCESSED: Final = "queue_worker_messages_processed_total{"
PENDING: Final = 'queue_worker_pending_messages{function_name="echo.openfaas-fn"'
INSERTED_AT_ONCE: Final = 10_000


def run(stage: Stage) -> list[Row]:
    """Rows of a platform of its own, whose gateway is stopped to be given backlogs."""
    folder = stage.folder / "asynchronous"
    with platform_on(folder) as platform, client(platform) as api:
        mine = Stage(platform, api, stage.folder, stage.log)
        mine.deploy("echo", mine.build("echo", ECHO), annotations=CONCURRENCY)
        mine.deploy("slow", mine.build("slow", SLOW))
        request = WrkRequest.write(stage.folder / "async.lua", [BODY])
        synchronous = statistics.median(
            each.rate for each in _rounds(mine.calls("echo"), request, 1)
        )
        return _measured(mine, request, synchronous)


def _measured(stage: Stage, request: WrkRequest, synchronous: float) -> list[Row]:
    """synchronous: calls a second when wrk waits for the function's answer."""
    url = f"{stage.url}/async-function/echo"
    empty = _Accepted.of(_rounds(url, request, SECONDS))
    stage.log(f"executing {EXECUTED:,} calls")
    _restart_with(stage, "echo", EXECUTED)
    executed = _drained(stage)
    stage.log(f"accepting behind {BACKLOG:,} calls")
    restarted = _restart_with(stage, "slow", BACKLOG)
    behind = _Accepted.of(_rounds(url, request, SECONDS))
    what = f"behind {BACKLOG:,} calls"
    return [
        at_least("accepted, 64 connections", empty.rate, "calls/s", 4000),
        observed("accepted against answered synchronously", empty.rate, "calls/s", synchronous),
        observed("accepted, p99", empty.p99, "ms"),
        at_least("executed, echo", executed, "calls/s", 2000),
        observed("executed against answered synchronously", executed, "calls/s", synchronous),
        observed(f"start of the gateway {what}", restarted, "s"),
        at_most(f"accepted {what}, p99 against without", behind.p99, "ms", 2, empty.p99),
        at_least(f"accepted {what}", behind.rate, "calls/s", 4000),
    ]


class _Accepted:
    """Medians over rounds of posting. p99: milliseconds."""

    def __init__(self, rate: float, p99: float) -> None:
        self.rate, self.p99 = rate, p99

    @classmethod
    def of(cls, loads: list[Load]) -> "_Accepted":
        rate = statistics.median(each.rate for each in loads)
        return cls(rate, statistics.median(each.p99 for each in loads) * 1000)


def _rounds(url: str, request: WrkRequest, seconds: float) -> list[Load]:
    load(url, request, CONNECTIONS, 1)
    return [load(url, request, CONNECTIONS, seconds) for _ in range(ROUNDS)]


def _restart_with(stage: Stage, function: str, count: int) -> float:
    """Stop, insert calls, start; seconds until the gateway has its functions again."""
    _drained(stage)
    stage.platform.sluice("down")
    insert(stage.platform.data_dir / "queue" / "calls.sqlite", function, count)
    begun = time.monotonic()
    start(stage.platform)
    stage.until("echo", availableReplicas=1)
    return time.monotonic() - begun


def _drained(stage: Stage) -> float:
    """Calls a second that are run until echo's queue is empty."""
    first, begun = _metric(stage, PROCESSED), time.monotonic()
    while _metric(stage, PENDING):
        time.sleep(0.1)  # a gauge is read, it tells nobody
    return (_metric(stage, PROCESSED) - first) / (time.monotonic() - begun)


def _metric(stage: Stage, name: str) -> float:
    text = httpx.get(f"{stage.platform.metrics_url}/metrics", timeout=10).text
    found = [line for line in text.splitlines() if line.startswith(name)]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def insert(path: Path, function: str, count: int) -> None:
    """Write `count` queued calls of a function as the gateway would have."""
    make = new_ids()
    head = b"POST / HTTP/1.1\r\nhost: gateway\r\ncontent-length: 601\r\n"
    now = time.time()
    body = BODY.encode()
    database = sqlite3.connect(path)
    database.execute("PRAGMA synchronous = OFF")
    for at in range(0, count, INSERTED_AT_ONCE):
        ids = [make() for _ in range(min(INSERTED_AT_ONCE, count - at))]
        calls: list[Any] = [
            (id_, f"{function}.openfaas-fn", now, now, len(head) + 601) for id_ in ids
        ]
        database.executemany(
            "INSERT INTO calls (id, function, state, due, attempts, accepted, callback, host, name,"
            " size, callback_state, reason) VALUES (?, ?, 0, ?, 0, ?, '', '', '', ?, '', '')",
            calls,
        )
        database.executemany(
            "INSERT INTO requests (id, head, body, blob, size) VALUES (?, ?, ?, '', 601)",
            [(id_, head, body) for id_ in ids],
        )
        database.commit()
    database.close()
    # What is measured next must not wait for this to reach the disk.
    os.sync()
