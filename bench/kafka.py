"""Records a second from a real Kafka broker through the real gateway to an echo function.

    python -m bench.kafka [--single 60000] [--batched 400000] [--rounds 3]

One topic of 8 partitions, values of 100 bytes, one connector, one replica. Two series: one call a
record in order per partition, and batches of 100. The records are there before the connector
starts; the rate is taken from the committed offsets between a tenth and all of them, so that
joining the group counts for nothing and what is counted had its effect. Broker, gateway, function
and connector share the machine.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer

from sluice.client import GatewayClient
from tests.e2e.conftest import ECHO, Stage
from tests.kafka_broker import KafkaBroker
from tests.live import ROOT, LivePlatform, live_platform

PARTITIONS: Final = 8
LONGEST: Final = 120.0  # seconds for one round
VALUE: Final = json.dumps({"n": 1, "text": "x" * 80}).encode()
RESULTS: Final = ROOT / "bench" / "results" / "kafka.json"
SERIES: Final[dict[str, dict[str, str]]] = {
    "single": {},
    "batched": {"com.sluice.kafka.batch-size": "100"},
}
# What `sluice serve` starts, without the other event sources.
CONNECTOR: Final = """
import asyncio, logging, os, signal, uvloop
from triggers.catalog import Catalog
from triggers.gateway import GatewayClient
from triggers.kafka.connector import Connector
from triggers.metrics import TriggersMetrics
from triggers.settings import TriggersSettings

async def main():
    settings = TriggersSettings.load(os.environ)
    gateway = GatewayClient(settings.gateway_url, *settings.credentials())
    catalog = Catalog(gateway, 0.5)
    connector = Connector(settings, gateway, catalog, TriggersMetrics())
    running = [asyncio.create_task(source.run()) for source in (catalog, connector)]
    stop = lambda: [task.cancel() for task in running]
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)
    await asyncio.wait(running)

logging.basicConfig(level="INFO", filename=os.environ["BENCH_LOG"])
uvloop.run(main())
"""


def fill(broker: KafkaBroker, topic: str, count: int) -> None:
    """Publish `count` records, spread evenly over the partitions."""
    broker.create(topic, partitions=PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, batch_size=262144)
    for number in range(count):
        producer.send(topic, value=VALUE, partition=number % PARTITIONS)
    producer.flush()
    producer.close()


@contextmanager
def connector(platform_: LivePlatform, broker: KafkaBroker, log: Path) -> Iterator[None]:
    environ = {**platform_.environ, "KAFKA_BOOTSTRAP": broker.bootstrap, "BENCH_LOG": str(log)}
    command = [sys.executable, "-c", CONNECTOR]
    if profile := os.environ.get("BENCH_PROFILE"):
        script = log.with_suffix(".py")
        script.write_text(CONNECTOR)
        command = [sys.executable, "-m", "cProfile", "-o", profile, str(script)]
        environ["PYTHONPATH"] = str(ROOT)
    process = subprocess.Popen(command, env=environ, cwd=ROOT)  # noqa: S603 - this interpreter
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def measure(broker: KafkaBroker, group: str, count: int) -> float:
    """Records a second from when a tenth is committed until all are."""
    first: tuple[float, int] | None = None
    deadline = time.monotonic() + LONGEST
    done = 0
    while time.monotonic() < deadline:
        done, now = _committed(broker, group), time.monotonic()
        if first is None and done >= count // 10:
            first = now, done
        if first is not None and done == count:
            return (done - first[1]) / (now - first[0])
        time.sleep(0.1)
    raise TimeoutError(f"{group}: {done} of {count} records")


def _committed(broker: KafkaBroker, group: str) -> int:
    try:
        return sum(broker.committed(group).values())
    except Exception:  # noqa: BLE001 - no such group yet
        return 0


def run(stage: Stage, broker: KafkaBroker, folder: Path, options: argparse.Namespace) -> Any:
    """One result a series: records, rates, median."""
    results = {}
    for series, annotations in SERIES.items():
        count = getattr(options, series)
        if not count:
            continue
        rates = []
        for number in range(options.rounds):
            name = f"{series}{number}"
            fill(broker, name, count)
            more = {"topic": name, **annotations}
            stage.serve(folder, name, ECHO, annotations=more)
            with connector(stage.platform, broker, folder / f"{name}.log"):
                rates.append(measure(broker, f"sluice.openfaas-fn.{name}", count))
            stage.http.request("DELETE", "/system/functions", json={"functionName": name})
            sys.stdout.write(f"{series}: {rates[-1]:,.0f} records/s\n")
        results[series] = {
            "records": count,
            "records_per_second": [round(rate) for rate in rates],
            "median": round(statistics.median(rates)),
        }
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--single", type=int, default=60_000, help="records, one call each")
    parser.add_argument("--batched", type=int, default=400_000, help="records, 100 a call")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.relative_to(ROOT)}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        broker = KafkaBroker(folder)
        broker.start()
        try:
            with live_platform(folder / ".sluice") as live:
                password = live.password_file.read_text().strip()
                with live.client() as http, GatewayClient(live.url, ("admin", password)) as api:
                    results = run(Stage(live, http, api), broker, folder, options)
        finally:
            broker.stop()
    report(results, options)


def report(results: Any, options: argparse.Namespace) -> None:
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607 - whichever git there is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    text = json.dumps(
        {
            "bench": "kafka",
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": commit,
            "machine": f"{platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "partitions": PARTITIONS,
            "value_bytes": len(VALUE),
            "results": results,
        },
        indent=2,
    )
    sys.stdout.write(f"{text}\n")
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(f"{text}\n")


if __name__ == "__main__":
    main()
