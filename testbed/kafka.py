"""A real Kafka broker for tests: a process of its own on free ports, started by deploy/kafka.

Ready means that it answers a metadata request, not that a port is open.
"""

import gc
import os
import shutil
import signal
import subprocess
import time
import warnings
from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import KafkaAdminClient, NewTopic

from testbed.platform import ROOT, free_ports

STARTED: Final = "Kafka Server started"
START_SECONDS: Final = 90.0


class KafkaBroker:
    """One broker that can be killed and started again on the same data and port.

    properties: lines that go before those of deploy/kafka at the next start.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.properties = folder, ""
        self.port, self.controller_port = free_ports(2)
        self.bootstrap = f"127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait for its own word that it is ready."""
        properties = self.folder / "more.properties"
        properties.write_text(self.properties)
        environ = {
            **os.environ,
            "KAFKA_PORT": str(self.port),
            "KAFKA_CONTROLLER_PORT": str(self.controller_port),
            "KAFKA_DATA": str(self.folder / "data"),
            "KAFKA_PROPERTIES": str(properties),
        }
        log = self.folder / "broker.log"
        offset = log.stat().st_size if log.exists() else 0
        with log.open("a") as output:
            self._process = subprocess.Popen(
                [str(ROOT / "deploy" / "kafka" / "run.sh")],
                env=environ,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while STARTED not in log.read_text()[offset:]:
            assert self._process.poll() is None, log.read_text()[-4000:]
            assert time.monotonic() < deadline, log.read_text()[-4000:]
            time.sleep(0.05)
        self.admin().close()

    def kill(self) -> None:
        """Kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Let it close its files."""
        self._end(signal.SIGTERM)

    def admin(self) -> KafkaAdminClient:
        return KafkaAdminClient(bootstrap_servers=self.bootstrap)

    def create(self, *topics: str, partitions: int = 1) -> None:
        """Make topics."""
        admin = self.admin()
        try:
            admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
        finally:
            admin.close()

    def publish(self, topic: str, values: Sequence[bytes], **more: Any) -> None:
        """Publish values with a foreign client's producer and wait until the broker has them.

        key, headers, partition: as KafkaProducer.send takes them; keys: one a value.
        """
        keys = more.pop("keys", None) or [more.pop("key", None)] * len(values)
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=5)
        try:
            sent = [
                producer.send(topic, value=value, key=key, **more)
                for key, value in zip(keys, values, strict=True)
            ]
            for future in sent:
                future.get(timeout=30)
        finally:
            producer.close()

    def read(
        self,
        topic: str,
        count: int,
        seconds: float = 60.0,
        key: Callable[[Any], Hashable] = lambda record: (record.partition, record.offset),
    ) -> list[Any]:
        """Records of a topic, in no order between partitions, once there are `count` by `key`.

        key: what makes a record another one; where it is published at least once, its origin.
        """
        consumer = KafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            metadata_max_age_ms=500,
        )
        found: dict[Hashable, Any] = {}
        deadline = time.monotonic() + seconds
        try:
            while len(found) < count:
                for records in consumer.poll(timeout_ms=200).values():
                    found |= {key(record): record for record in records}
                assert time.monotonic() < deadline, f"{len(found)} of {count} records"
        finally:
            consumer.close()
        return list(found.values())

    def committed(self, group: str) -> dict[tuple[str, int], int]:
        """The offsets that a group has committed, by topic and partition."""
        admin = self.admin()
        try:
            offsets = admin.list_group_offsets([group])[group]
        finally:
            admin.close()
        return {(place.topic, place.partition): at.offset for place, at in offsets.items()}

    def _end(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.poll() is None:
            process.send_signal(number)
            process.wait(30)


def collect_sockets() -> None:
    """Meet the sockets that kafka-python leaves to the collector when a connect fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        # What a coroutine's end lets go of is there for the next time only.
        for _ in range(3):
            gc.collect()


def why_not() -> str:
    """What a broker lacks on this machine; empty when it can be started."""
    missing = [program for program in ("java", "mvn") if shutil.which(program) is None]
    return f"no {' and no '.join(missing)}" if missing else ""


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """One broker for all tests that do not kill it."""
    if reason := why_not():
        pytest.skip(f"{reason}: no Kafka broker")
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.stop()
        collect_sockets()
