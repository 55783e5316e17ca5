"""Durable asynchronous calls through the real gateway: accepted, executed, behind a backlog.

    python -m bench.asynchronous [--seconds 5] [--rounds 3] [--backlog 1000000] [--output FILE]

wrk posts 601 bytes to /async-function/echo on 64 connections and every 202 is on the disk; the
echo function is called meanwhile. Backlogs are inserted straight into the tables of a stopped
gateway, due at once: calls of echo, to be executed with nobody posting, and a million calls of a
function that takes a second each. Gateway, function, wrk and the disk are one machine's.
"""

import argparse
import json
import os
import sqlite3
import statistics
import sys
import tempfile
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx

from bench.machine import commit, machine
from bench.rows import Row, at_least, at_most, told
from bench.stage import Stage, client
from bench.wrk import Load, Request, load
from gateway.queue.call import new_ids
from tests.live import ROOT, live_platform, start

RESULTS: Final = ROOT / "bench" / "results" / "asynchronous.json"
CONNECTIONS: Final = 64
BODY: Final = "x" * 601
ECHO: Final = "async def handle(event, context):\n    return event.body\n"
SLOW: Final = "import asyncio\n\n\nasync def handle(event, context):\n    await asyncio.sleep(1)\n"
CONCURRENCY: Final = {"com.sluice.async.concurrency": "64"}
PROCESSED: Final = "queue_worker_messages_processed_total{"
PENDING: Final = 'queue_worker_pending_messages{function_name="echo.openfaas-fn"'
INSERTED_AT_ONCE: Final = 10_000


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--seconds", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backlog", type=int, default=1_000_000)
    parser.add_argument("--executed", type=int, default=60_000)
    parser.add_argument("--output", type=Path, default=RESULTS)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="sluice-async-") as name:
        rows = measure(Path(name), given)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(ROOT),
        "machine": machine(),
    }
    given.output.parent.mkdir(exist_ok=True)
    document = {**about, "rows": [asdict(row) for row in rows]}
    given.output.write_text(json.dumps(document, indent=1) + "\n")
    return 1 if any(row.ok is False for row in rows) else 0


def measure(folder: Path, given: argparse.Namespace) -> list[Row]:
    """The rows, each printed as it comes."""
    request = Request.write(folder / "post.lua", [BODY])
    quiet = {"SLUICE_LOG_LEVEL": "warning"}
    with live_platform(folder / "data", **quiet) as platform, client(platform) as api:
        stage = Stage(platform, api, folder, _say)
        stage.deploy("echo", stage.build("echo", ECHO), annotations=CONCURRENCY)
        stage.deploy("slow", stage.build("slow", SLOW))
        url = f"{platform.url}/async-function/echo"
        load(url, request, CONNECTIONS, 1)
        empty = _rounds(url, request, given)
        accepted = statistics.median(each.rate for each in empty)
        p99 = statistics.median(each.p99 for each in empty)
        rows = [
            _shown(at_least("accepted, 64 connections", accepted, "/s", 4000)),
            _shown(told("accepted, p99", p99 * 1000, "ms")),
        ]
        _restart_with(stage, "echo", given.executed)
        rows.append(_shown(at_least("executed, echo", _drained(stage), "/s", 2000)))
        taken = _restart_with(stage, "slow", given.backlog)
        rows.append(_shown(told("start with the backlog", taken, "s")))
        load(url, request, CONNECTIONS, 1)
        behind = _rounds(url, request, given)
        rate = statistics.median(each.rate for each in behind)
        late = statistics.median(each.p99 for each in behind)
        what = f"behind {given.backlog:,} calls"
        rows.append(_shown(at_most(f"accepted {what}, p99", late * 1000, "ms", 2, p99 * 1000)))
        rows.append(_shown(at_least(f"accepted {what}", rate, "/s", 4000)))
    return rows


def _rounds(url: str, request: Request, given: argparse.Namespace) -> list[Load]:
    found = [load(url, request, CONNECTIONS, given.seconds) for _ in range(given.rounds)]
    for each in found:
        _say(f"accepted {each.rate:.0f}/s p50 {each.p50 * 1000:.1f} p99 {each.p99 * 1000:.1f} ms")
    return found


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
        time.sleep(0.2)
    rate = (_metric(stage, PROCESSED) - first) / (time.monotonic() - begun)
    _say(f"executed {rate:.0f}/s")
    return rate


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


def _shown(row: Row) -> Row:
    sys.stdout.write(json.dumps(asdict(row)) + "\n")
    sys.stdout.flush()
    return row


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
