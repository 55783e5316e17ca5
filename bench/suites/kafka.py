"""Records a second from a real Kafka broker through the gateway to an echo function.

One topic of 8 partitions, values of 100 bytes, one connector, one replica: one call a record in
order per partition, and batches of 100. The records are there before the function is; the rate is
taken from the committed offsets between a tenth and all of them, so that joining the group counts
for nothing and what is counted had its effect. Broker, gateway, function and connector share the
machine. The control is wrk calling the same function on as many connections as there are
partitions: what the gateway gives without a broker.
"""

import json
import statistics
import time
from contextlib import ExitStack
from typing import Final

from kafka import KafkaProducer
from kafka.admin import KafkaAdminClient
from kafka.errors import RetriableError

from bench.rows import Row, at_least, observed
from bench.stage import Stage, StageError, client, platform_on
from bench.wrk import WrkRequest, load
from testbed.kafka import KafkaBroker, why_not

PARTITIONS: Final = 8
ROUNDS: Final = 3
SINGLE: Final = 40_000  # records
BATCHED: Final = 300_000
LONGEST: Final = 120.0  # seconds for one round
VALUE: Final = json.dumps({"n": 1, "text": "x" * 80}).encode()
ECHO: Final = "async def handle(event, context):\n    return event.body\n"
BATCHES: Final = {"com.sluice.kafka.batch-size": "100"}


def run(stage: Stage) -> list[Row]:
    """Rows of a broker and a platform of their own."""
    if reason := why_not():
        raise StageError(f"no Kafka broker: {reason}")
    folder = stage.folder / "kafka"
    folder.mkdir()
    broker = KafkaBroker(folder)
    with ExitStack() as opened:
        opened.callback(broker.stop)
        broker.start()
        settings = {"KAFKA_BOOTSTRAP": broker.bootstrap}
        platform = opened.enter_context(platform_on(folder / "data", **settings))
        api = opened.enter_context(client(platform))
        return _measured(Stage(platform, api, folder, stage.log), broker)


def _measured(stage: Stage, broker: KafkaBroker) -> list[Row]:
    request = WrkRequest.write(stage.folder / "row.lua", [VALUE.decode()])
    single, direct, batched = [], [], []
    for turn in range(ROUNDS):
        stage.log(f"records, round {turn + 1} of {ROUNDS}")
        single.append(_consumed(stage, broker, f"single{turn}", SINGLE, {}))
        direct.append(load(stage.calls(f"single{turn}"), request, PARTITIONS).rate)
        stage.api.remove(f"single{turn}")
        batched.append(_consumed(stage, broker, f"batched{turn}", BATCHED, BATCHES))
        stage.api.remove(f"batched{turn}")
    rate = statistics.median(single)
    return [
        at_least("records, one call each, 8 partitions in order", rate, "records/s", 3000),
        observed("the same against calls by wrk", rate, "records/s", statistics.median(direct)),
        at_least("records, batches of 100", statistics.median(batched), "records/s", 20000),
    ]


def _consumed(
    stage: Stage, broker: KafkaBroker, name: str, count: int, annotations: dict[str, str]
) -> float:
    """Records a second of a topic and a function named `name`."""
    _fill(broker, name, count)
    stage.deploy(name, stage.build("echo", ECHO), annotations={"topic": name, **annotations})
    return _rate(broker, f"sluice.openfaas-fn.{name}", count)


def _fill(broker: KafkaBroker, topic: str, count: int) -> None:
    """Publish `count` records, spread evenly over the partitions."""
    broker.create(topic, partitions=PARTITIONS)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, linger_ms=20, batch_size=262144)
    for number in range(count):
        producer.send(topic, value=VALUE, partition=number % PARTITIONS)
    producer.flush()
    producer.close()


def _rate(broker: KafkaBroker, group: str, count: int) -> float:
    """Records a second from when a tenth is committed until all are."""
    first: tuple[float, int] | None = None
    done, deadline = 0, time.monotonic() + LONGEST
    admin = broker.admin()
    try:
        while time.monotonic() < deadline:
            done, now = _committed(admin, group), time.monotonic()
            if first is None and done >= count // 10:
                first = now, done
            if first is not None and done == count:
                return (done - first[1]) / (now - first[0])
            time.sleep(0.1)  # a group's offsets are read, they tell nobody
    finally:
        admin.close()
    raise TimeoutError(f"{group}: {done} of {count} records")


def _committed(admin: KafkaAdminClient, group: str) -> int:
    """Offsets of a group, added up; 0 while there is no such group."""
    try:
        listed = admin.list_group_offsets([group])
    except RetriableError:  # the first group has the broker make its topic of offsets
        return 0
    return sum(at.offset for at in listed.get(group, {}).values() if at.offset > 0)
