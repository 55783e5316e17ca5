"""Records into a function while connector, gateway and broker are killed -9 at random.

Every record's effect must be seen, in order for each key, and twice only around the kills: not
before the first one, and not once all that was under way at the last one is done and committed.
The effect is a line that the function sends to this process and that this process acknowledges.
"""

import asyncio
import os
import random
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaError

from sluice.cli.client import GatewayClient
from testbed.kafka import KafkaBroker, why_not
from testbed.platform import LivePlatform, live_platform
from tests.e2e.conftest import Stage

pytestmark = [
    pytest.mark.torture,
    pytest.mark.timeout(2400),
    pytest.mark.skipif(bool(why_not()), reason=f"no Kafka broker: {why_not()}"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
RECORDS = int(os.environ.get("TORTURE_RECORDS", "200000"))
KILLS = int(os.environ.get("TORTURE_KILLS", "24"))
KEYS = 64
CALM = 2000  # records after the last kill
GROUP = "sluice.openfaas-fn.effect"
HANDLER = """
import asyncio

streams = None

async def handle(event, context):
    global streams
    async with lock():
        if streams is None:
            streams = await asyncio.open_connection("127.0.0.1", PORT)
        reader, writer = streams
        try:
            writer.write(event.body + b"\\n")
            if not await reader.readline():
                raise ConnectionError("the collector is gone")
        except BaseException:
            streams = None
            writer.close()
            raise
    return b""

_lock = None

def lock():
    global _lock
    if _lock is None:
        _lock = asyncio.Lock()
    return _lock
"""


class Effects:
    """What the function did: (key, number) and when, in the order of arrival."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, float]] = []
        self.distinct: set[tuple[int, int]] = set()
        self._more = asyncio.Event()
        self._takers: dict[asyncio.Task[None], asyncio.StreamWriter] = {}

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._takers[task] = writer
        with suppress(ConnectionError):
            while line := await reader.readline():
                key, number = (int(part) for part in line.split())
                self.seen.append((key, number, time.monotonic()))
                self.distinct.add((key, number))
                self._more.set()
                writer.write(b"ok\n")
        writer.close()

    async def reach(self, count: int) -> None:
        """Return once so many records had their effect."""
        while len(self.distinct) < count:
            self._more.clear()
            await self._more.wait()

    async def end(self) -> None:
        """Hang up on every function and wait until all connections are closed."""
        for writer in self._takers.values():
            writer.close()
        await asyncio.gather(*self._takers, return_exceptions=True)
        closed = (writer.wait_closed() for writer in self._takers.values())
        await asyncio.gather(*closed, return_exceptions=True)


@asynccontextmanager
async def collector(effects: Effects) -> AsyncIterator[int]:
    server = await asyncio.start_server(effects.take, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await effects.end()
        await server.wait_closed()


@contextmanager
def publishing(bootstrap: str, numbers: range) -> Iterator[threading.Thread]:
    """A foreign producer that sends the records of these numbers, through every outage."""
    ended = threading.Event()

    def publish() -> None:
        producer = KafkaProducer(
            bootstrap_servers=bootstrap,
            acks="all",
            linger_ms=5,
            delivery_timeout_ms=300_000,
            max_block_ms=300_000,
            reconnect_backoff_max_ms=1000,
        )
        futures = []
        for number in numbers:
            if ended.is_set():
                break
            key, count = number % KEYS, number // KEYS
            text = b"%d %d" % (key, count)
            futures.append(producer.send("torture", key=b"%d" % key, value=text))
        for future in futures:
            future.get(timeout=300)
        producer.close(timeout=5)

    thread = threading.Thread(target=publish)
    thread.start()
    try:
        yield thread
    finally:
        ended.set()
        thread.join(320)


def kill_program(platform: LivePlatform, module: str) -> Callable[[], None]:
    """Something that kills -9 the supervised `python -m MODULE`; its supervisor starts it again."""

    def kill() -> None:
        # Who is away is let come back: work is done only while all of them are there.
        for pid in platform.running(module):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    return kill


def restart(broker: KafkaBroker) -> None:
    broker.kill()
    broker.start()


async def kill_along(targets: list[Callable[[], None]], effects: Effects) -> list[float]:
    """Kill at random points of the first nine tenths of all records; when that was."""
    rng = random.Random(11)
    kills: list[float] = []
    for turn, point in enumerate(
        sorted(rng.sample(range(RECORDS // 100, RECORDS * 9 // 10), KILLS))
    ):
        await effects.reach(point)
        # Each of them early on, the first while records are published; later now and then two.
        chosen = (
            [targets[turn]] if turn < len(targets) else rng.sample(targets, 1 + (turn % 4 == 0))
        )
        for target in chosen:
            kills.append(time.monotonic())
            await asyncio.to_thread(target)
    return kills


async def test_every_record_has_its_effect_in_order_whatever_is_killed(tmp_path: Path) -> None:
    broker, effects = KafkaBroker(tmp_path), Effects()
    await asyncio.to_thread(broker.start)
    settings = {
        "KAFKA_BOOTSTRAP": broker.bootstrap,
        "SLUICE_TRIGGERS_REBUILD_INTERVAL": "500ms",
    }
    try:
        async with collector(effects) as port:
            with live_platform(tmp_path / ".sluice", **settings) as platform:
                broker.create("torture", partitions=8)
                await asyncio.to_thread(deploy, platform, tmp_path, port)
                kills = await run(platform, broker, effects)
                await calm(broker, effects)
    finally:
        broker.stop()
    assert_in_order(effects)
    assert_twice_around_kills_only(effects, kills)


def deploy(platform: LivePlatform, folder: Path, port: int) -> None:
    password = platform.password_file.read_text().strip()
    with platform.client() as http, GatewayClient(platform.url, ("admin", password)) as api:
        stage = Stage(platform, http, api)
        source = HANDLER.replace("PORT", str(port))
        stage.serve(folder, "effect", source, annotations={"topic": "torture"})


async def run(platform: LivePlatform, broker: KafkaBroker, effects: Effects) -> list[float]:
    """The times of all kills, once every record had its effect."""
    targets = [
        lambda: restart(broker),
        kill_program(platform, "triggers"),
        kill_program(platform, "gateway"),
    ]
    with publishing(broker.bootstrap, range(RECORDS)) as publisher:
        kills = await kill_along(targets, effects)
        await asyncio.to_thread(publisher.join)
    await committed(broker, effects, RECORDS)
    return kills


async def calm(broker: KafkaBroker, effects: Effects) -> None:
    """More records, with nobody killed."""
    with publishing(broker.bootstrap, range(RECORDS, RECORDS + CALM)) as publisher:
        await asyncio.to_thread(publisher.join)
    await committed(broker, effects, RECORDS + CALM)


async def committed(broker: KafkaBroker, effects: Effects, count: int) -> None:
    """Return once so many records had their effect and will not be called again."""
    done, deadline = 0, time.monotonic() + 600
    while len(effects.distinct) < count or done < count:
        await asyncio.sleep(0.1)
        with suppress(KafkaError, KeyError):  # the broker is coming back
            done = sum((await asyncio.to_thread(broker.committed, GROUP)).values())
        told = f"{len(effects.distinct)} of {count} records, {done} committed"
        assert time.monotonic() < deadline, told


def assert_in_order(effects: Effects) -> None:
    assert len(effects.distinct) == RECORDS + CALM
    first: dict[int, int] = {}
    for key, number, _ in effects.seen:
        expected = first.get(key, -1) + 1
        assert number <= expected, f"key {key}: {number} before {expected}"
        first[key] = max(first.get(key, -1), number)


def assert_twice_around_kills_only(effects: Effects, kills: list[float]) -> None:
    seen: set[tuple[int, int]] = set()
    twice = 0
    for key, number, at in effects.seen:
        if (key, number) in seen:
            twice += 1
            assert at > kills[0], (key, number)
            assert number * KEYS + key < RECORDS, "called twice though nobody was killed"
        seen.add((key, number))
    print(f"{RECORDS} records, {len(kills)} kills, {twice} called twice")  # noqa: T201 - shown by -s
